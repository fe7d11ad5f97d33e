#!/usr/bin/env bash
# All evidence that needs a GPU, most valuable first, in pieces of at most ten minutes that resume.
#
#   benchmarks/gpu_evidence.sh OUT [DATA] [PIECE ...]
#
# OUT gets results/ (records, small), logs/ and bench/ (timings); DATA is a folder of PanCollection-format files
# shown as <sensor>-mini (leave it empty for the simulated sensors alone). Run from the checkout; the package is
# found through PYTHONPATH. A piece that is cut off continues at the next call: finished runs have their record,
# trainings their checkpoint under runs/. With PIECE names only those are run.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:?folder for the results}; shift
data=${1:-}; [ $# -gt 0 ] && shift
mkdir -p "$out"/{results,logs,bench}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 PANSHARP_CACHE="${PANSHARP_CACHE:-$out/cache}"
python=${PYTHON:-python3}
limit=${PIECE_SECONDS:-570}

piece() { # piece NAME COMMAND...: run it within the limit, keep its log
    local name=$1; shift
    [ ${#wanted[@]} -eq 0 ] || [[ " ${wanted[*]} " == *" $name "* ]] || return 0
    [ -e "$out/logs/$name.done" ] && return 0
    echo "== $name"
    if timeout --signal=INT --kill-after=20 "$limit" "$@" >>"$out/logs/$name.log" 2>&1; then
        touch "$out/logs/$name.done"
    else
        echo "   ended with $?; the next call resumes it (log: $out/logs/$name.log)"
    fi
    tail -n 3 "$out/logs/$name.log"
}
wanted=("$@")

train() { # train METHOD DATASET SEED [extra options]: reuses a record, resumes a checkpoint, else starts
    local method=$1 dataset=$2 seed=$3; shift 3
    local name="$method-$dataset-s$seed"
    name+=$(printf '%s' "$@" | tr -cd 'A-Za-z0-9.-')  # rows of one method have names of their own
    piece "$name" "$python" -m pansharp_bench ablate "$method" --dataset "$dataset" \
        --seeds "$seed" --resume --preset standard --results "$out/results" --runs "$out/runs" --quiet "$@"
}

piece tests "$python" -m pytest tests -q -k "cuda or golden"
train sp-i2i qb-sim 0
piece metrics "$python" benchmarks/metrics.py --out "$out/bench/metrics.json"
piece steps "$python" benchmarks/unpaired_step.py --out "$out/bench/unpaired_step.json"
for seed in 0 1; do
    for method in sp-i2i unsb cut; do train "$method" qb-sim "$seed"; done
done
for levels in 6 1 2 4; do train sp-i2i junocam2hst-sim 0 --levels "$levels"; done
for method in unsb cut identity channel-affine histogram-matching colour-ot; do train "$method" junocam2hst-sim 0; done
train sp-i2i junocam2hst-sim 0 --no-gating --set levels=6
for method in affine-regression pixel-regression; do train "$method" junocam2hst-uvm-sim 0; done
piece paired "$python" benchmarks/paired.py --out "$out/bench/paired.json"
for method in canconv dcpnet pancrafter pnn pannet dicnn msdcnn fusionnet lagnet; do train "$method" qb-sim 0; done
if [ -n "$data" ]; then
    for set in qb gf2; do
        for seed in 0 1; do
            for method in sp-i2i unsb cut; do train "$method" "$set" "$seed" --data "$data" --label mini; done
        done
        for method in canconv dcpnet pancrafter pnn pannet dicnn msdcnn fusionnet lagnet; do
            train "$method" "$set" 0 --data "$data" --label mini
        done
    done
fi
"$python" -m pansharp_bench leaderboard --results "$out/results" >"$out/leaderboard.md" 2>/dev/null && echo "tables: $out/leaderboard.md"
