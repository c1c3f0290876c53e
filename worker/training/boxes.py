"""Where in its crop a face is: the last thing that face_net learns, by least squares.

The maps that tell a face from what is none hold it, too: nothing else has to be trained for it.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from worker.training.dataset import Faces, face_labels
from worker.training.networks.emotion_net import EmotionNet, cells
from worker.training.tables import WHOLE
from worker.training.views import BATCH, as_seen

RIDGE = 100.0  # added to the sums of squares, so that few faces do not teach large numbers


@torch.no_grad()
def learn_boxes(network: nn.Module, faces: Faces, side: int) -> None:
    """Fit the last layer that reads boxes, if the network has one, to faces that do not fill their
    crops, each seen in the mirror, too; it stays as it is if there are none.

    ``side``: of the crops that the network is shown, in pixels.
    """
    corners = faces.boxes / faces.crops.shape[1]
    told = (faces.boxes != WHOLE).any(axis=1) & (corners[:, 2:] > corners[:, :2]).all(axis=1)
    told &= face_labels(faces.votes) == 0
    if not isinstance(network, EmotionNet) or not network.boxes or not told.any():
        return
    crops = torch.from_numpy(faces.crops[told]).unsqueeze(1).float()
    batches = torch.cat([crops, crops.flip(3)]).to(network.box_head.weight.device).split(BATCH)
    seen = torch.cat([cells(network.eval().features(as_seen(batch, side))) for batch in batches])
    inputs = functional.pad(seen.double().cpu(), (0, 1), value=1.0)  # for the bias
    start, end = corners[told, :2], corners[told, 2:]
    size = np.log((end - start).prod(axis=1, keepdims=True)) / 2
    straight = np.hstack([(start + end - 1) / 2, size])
    wanted = torch.from_numpy(np.concatenate([straight, straight * [-1, 1, 1]]))
    squares = inputs.T @ inputs + RIDGE * torch.eye(inputs.shape[1])
    weights = torch.linalg.solve(squares, inputs.T @ wanted)
    network.box_head.weight.copy_(weights[:-1].T)
    network.box_head.bias.copy_(weights[-1])
