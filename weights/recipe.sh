#!/bin/sh
# How the networks of emotions in this folder are made: teachers, stored views, pupils.
#
#     weights/recipe.sh FERPLUS OUT            everything, from FER+ alone: some hours on one GPU
#     weights/recipe.sh FERPLUS OUT pupils     from weights/emotion_net_wide.onnx on: for a CPU
#
# FERPLUS is FER+ in the layout that the README describes; OUT gets the networks, the views of the
# faces and checkpoints. Run it again after an interruption, with the same words: a network that is
# there is not trained anew, a view that is there is not made anew, and a training goes on from its
# last epoch. Variables, with their defaults: PYTHON=python; TEACHER_EPOCHS=100, PUPIL_EPOCHS=300,
# VIEWS=40 (a CPU: 20 suffice); DEVICE=auto.
set -eu

[ $# -ge 2 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2; }
ferplus=$1 out=$2 from=${3:-teachers}
weights=$(dirname "$0")
teacher_epochs=${TEACHER_EPOCHS:-100} pupil_epochs=${PUPIL_EPOCHS:-300} views=${VIEWS:-40}
case $weights$out in
*[[:space:]]*) echo "recipe.sh: OUT, and the folder of this script, must have no spaces" >&2; exit 2 ;;
esac
mkdir -p "$out"

# train FILE NETWORK FLAG...
train() {
    file=$out/$1.onnx network=$2
    shift 2
    [ -e "$file" ] && return
    "${PYTHON:-python}" "$weights/../run_worker.py" train --data "$ferplus" --network "$network" \
        --output "$file" --batch-size 256 --bfloat16 --device "${DEVICE:-auto}" "$@"
}

# teach FILE NETWORK FLAG...: learns from the votes
teach() {
    train "$@" --epochs "$teacher_epochs" --dropout 0.3
}

# distil FILE NETWORK FLAG...: learns from stored views, the teachers' opinion of them, and the votes
distil() {
    file=$1 network=$2
    shift 2
    # shellcheck disable=SC2086  # several files
    train "$file" "$network" --epochs "$pupil_epochs" --seed 1 --views "$views" --teacher $teachers "$@"
}

if [ "$from" = pupils ]; then
    teachers=$weights/emotion_net_wide.onnx
else
    teach teacher_1 emotion_net_large --seed 1 --learning-rate 0.2
    teach teacher_2 emotion_net_large --seed 2 --learning-rate 0.2 --mixup 0.3
    teach teacher_3 emotion_net_broad --seed 3 --learning-rate 0.2
    teach teacher_4 emotion_net_deep --seed 5 --learning-rate 0.2 --mixup 0.2
    teachers="$out/teacher_1.onnx $out/teacher_2.onnx $out/teacher_3.onnx $out/teacher_4.onnx"
    distil emotion_net_wide emotion_net_wide --learning-rate 0.2
fi
# The small one has no numbers to spare: at the end it learns from whole faces, without dropout.
distil small_first emotion_net_small --learning-rate 0.2 --dropout 0.1 --weight-decay 0.0002
distil emotion_net_small emotion_net_small --init "$out/small_first.onnx" --epochs 40 \
    --learning-rate 0.04 --dropout 0 --erase 0 --weight-decay 0.0001
distil emotion_net emotion_net --learning-rate 0.2
distil custom_net custom_net --learning-rate 0.1 --dropout 0.1
distil vgg_net vgg_net --learning-rate 0.1 --dropout 0.2 --side 48 --mirrored
