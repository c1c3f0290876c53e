"""The model side: everything that needs labels, and all that needs torch.

All of it is loaded by the command that needs it: `worker.training.train` with
`worker.training.options`, `worker.training.export`,
`worker.training.evaluation` with `worker.training.figures` and `worker.training.plots`,
`worker.training.face_evaluation`, `worker.training.dataset`, `worker.training.crop`,
`worker.training.label`, `worker.training.agreement`, `worker.training.fer2013`.
"""

__all__: list[str] = []
