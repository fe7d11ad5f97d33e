#!/usr/bin/env bash
# All evidence that needs a GPU, most valuable first, as far as one call's time goes; the next call goes on from there.
#
#   benchmarks/gpu_evidence.sh OUT [DATA]
#
# OUT gets results/ (records, small), logs/ and bench/ (timings), and evidence.tar.gz of these three; DATA is a folder
# of PanCollection-format files shown as <sensor>-mini (leave it out for the simulated sensors alone). Nothing need be
# installed: the package is found in the checkout, wheels in WHEELS (default wheels/) are unpacked. A call ends after
# CALL_SECONDS (default 560): pieces that ended, be it in failure, are marked in logs/ and not begun again (remove the
# mark for that), finished runs have their record, trainings their checkpoint under OUT/runs. REHEARSE=1 goes the
# whole way on the CPU, with tiny sets and a handful of steps.
set -uo pipefail
cd "$(dirname "$0")/.."
mkdir -p "${1:?folder for the results}"/{results,logs,bench}
out=$(cd "$1" && pwd); data=${2:-}
deadline=$((SECONDS + ${CALL_SECONDS:-560}))
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 PANSHARP_CACHE="${PANSHARP_CACHE:-$out/cache}"
python=${PYTHON:-python3}
for wheel in "${WHEELS:-wheels}"/*.whl; do
    [ -e "$wheel" ] && "$python" -m zipfile -e "$wheel" "$out/site" && export PYTHONPATH="$PYTHONPATH:$out/site"
done
failed=0
trap 'kill $(jobs -p) 2>/dev/null' EXIT

piece() { # piece NAME SECONDS COMMAND...: run it within these and what is left of the call, keep its log
    local name=$1 most=$2 left=$((deadline - SECONDS)) status=0 mark=$out/logs/$1.done; shift 2
    [ -e "$mark" ] && { [ "$(<"$mark")" = 0 ] || failed=1; return; }
    [ "$left" -gt 10 ] || { echo "== $name: no time left, the next call begins here"; return; }
    echo "== $name"
    timeout --signal=INT --kill-after=20 $((left < most ? left : most)) "$@" >>"$out/logs/$name.log" 2>&1 || status=$?
    case $status in
        124) [ "$most" -ge "$left" ] || echo 0 >"$mark" ;; # cut off at its own limit it wrote what it had: enough
        130 | 137) failed=1 ;; # interrupted, or it did not heed the limit
        *) echo $status >"$mark"; [ $status = 0 ] || failed=1 ;;
    esac
    [ $status = 0 ] || echo "   ended with $status: $out/logs/$name.log"
    tail -n 3 "$out/logs/$name.log"
}

runs() { # runs METHODS DATASETS SEEDS [OPTION...]: a line for every training
    local method dataset seed
    for seed in $3; do for dataset in $2; do for method in $1; do
        echo "$method --dataset $dataset --seeds $seed ${*:4}"
    done; done; done
}

paired="dcpnet canconv pancrafter" light="pnn pannet dicnn msdcnn fusionnet lagnet" mini="--data $data --label mini"
trainings() { # most valuable first
    runs "sp-i2i unsb cut" "qb-sim gf2-sim" "0 1"
    runs "$paired" "qb-sim gf2-sim" 0
    runs sp-i2i junocam2hst-sim 0 --levels 6,1,2,4
    runs "unsb cut" junocam2hst-sim 0
    runs sp-i2i junocam2hst-sim 0 --no-gating --set levels=6
    runs pixel-regression junocam2hst-uvm-sim 0
    [ -z "$data" ] || runs "sp-i2i unsb cut" "qb gf2" "0 1" $mini
    [ -z "$data" ] || runs "$paired $light" "qb gf2" 0 $mini
    runs "$light" qb-sim 0
}
jupiter() { # Tables 1 and 3 at the paper's 256 pixels and levels, shorter than `standard`
    local short="--set steps=2000 --set batch=4"
    runs sp-i2i "$full" 0 --levels 8,1,6,4,2 $short
    runs "unsb cut" "$full" 0 $short
    runs sp-i2i "$full" 0 --no-gating --set levels=8 $short
}
shared=(--preset standard --resume --quiet --pictures 0 --results "$out/results" --runs "$out/runs")
tests=() speeds=() steps=(--methods sp-i2i,unsb,cut) networks=(--methods "${paired// /,},${light// /,}")
sets=(qb-sim gf2-sim junocam2hst-sim junocam2hst-uvm-sim) full=junocam2hst-sim-full sizes=(--plugin benchmarks/_sizes.py)

if [ -n "${REHEARSE:-}" ]; then # one of each kind
    trainings() {
        runs "sp-i2i cut" qb-sim-tiny 0
        runs pnn qb-sim-tiny 0
        runs sp-i2i junocam2hst-sim-tiny 0 --levels 2,1
        runs sp-i2i junocam2hst-sim-tiny 0 --no-gating --set levels=2
        runs pixel-regression junocam2hst-uvm-sim-tiny 0
    }
    jupiter() { runs sp-i2i "$full" 0 --levels 4; }
    few=(--set steps=2 --set batch=2 --set validations=1 --device cpu)
    shared=("${shared[@]/standard/quick}" "${few[@]}")
    tests=(--collect-only)
    speeds=(--quick --device cpu --method exp,pnn --only inference,step) # the kinds that a card has
    steps=(--device cpu --threads 1 --repeats 1 --cases 32x1 --ngf 8 --blocks 5 --methods sp-i2i,cut)
    networks=(--device cpu --threads 1 --repeat 1 --methods pnn --batch 1)
    sets=(qb-sim-tiny junocam2hst-sim-tiny junocam2hst-uvm-sim-tiny) full=junocam2hst-sim-tiny
fi

"$python" benchmarks/_trainings.py make "${sets[@]}" "${sizes[@]}" >"$out/logs/sets.log" 2>&1 & # before anything is timed
piece tests 300 "$python" -m pytest $(grep -lE 'def test_cuda|"device", DEVICES' tests/test_*.py) -q -k cuda \
    -p no:cacheprovider --continue-on-collection-errors "${tests[@]}"
wait $! || { failed=1; tail -n 3 "$out/logs/sets.log"; }
piece speed 300 "$python" -m pansharp_bench speed --results "$out/results" --quiet "${speeds[@]}"
piece steps 200 "$python" benchmarks/unpaired_step.py --out "$out/bench/unpaired_step.json" "${steps[@]}"
piece paired 200 "$python" benchmarks/paired.py --out "$out/bench/paired.json" "${networks[@]}"
"$python" benchmarks/_trainings.py make "$full" "${sizes[@]}" >"$out/logs/full.log" 2>&1 & # a quarter of an hour
piece trainings 3600 "$python" benchmarks/_trainings.py run "${shared[@]}" "${sizes[@]}" <<<"$(trainings)"
piece jupiter 3600 "$python" benchmarks/_trainings.py run "${shared[@]}" "${sizes[@]}" <<<"$(jupiter)"
"$python" -m pansharp_bench leaderboard --results "$out/results" >"$out/logs/leaderboard.md" || failed=1
tar -C "$out" -czf "$out/evidence.tar.gz" results logs bench && echo "all of it: $out/evidence.tar.gz"
exit $failed
