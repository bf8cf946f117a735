#!/bin/sh
# stage.sh NAME BUDGET COMMAND...: runs one stage of `make test` and prints its time beside its budget in seconds. A stage that
# fails is written to out/failed, which `make summary` turns into the exit status; the stages after it still tell something.
# Going over the budget is said, not failed: the machine may be busy.
name=$1 budget=$2
shift 2
echo "== $name"
start=$(date +%s)
"$@" </dev/null
status=$?
took=$(($(date +%s) - start))
note=
[ "$took" -gt "$budget" ] && note=", OVER BUDGET"
[ "$status" -ne 0 ] && echo "$name" >>out/failed && note="$note, FAILED"
echo "== $name: ${took} s of ${budget} s$note"
