#!/bin/sh
# Runs every fuzz target, found by listing, for an equal share of FUZZ_BUDGET seconds (default 60, building included).
# The corpus that is found is kept in Go's cache; an input that fails is written under testdata/fuzz by the test itself.
GO=${GO:-go}
budget=${FUZZ_BUDGET:-60}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
start=$(date +%s)

count=$(grep -rhE --include='*_test.go' '^func Fuzz' internal cmd | wc -l)
if [ "$count" -eq 0 ]; then
	echo "fuzz: no targets"
	exit 0
fi

root=$PWD
n=0
for dir in $(grep -rlE --include='*_test.go' '^func Fuzz' internal cmd | xargs -n 1 dirname | sort -u); do
	n=$((n + 1))
	"$GO" test -c -fuzz=. -o "$work/$n.test" "./$dir" || exit 1
	echo "$dir $work/$n.test" >>"$work/list"
done

left=$((budget - ($(date +%s) - start)))
each=$((left / count))
[ "$each" -lt 1 ] && each=1
[ "$each" -gt 10 ] && each=10
status=0
while read -r dir binary; do
	cd "$root/$dir" || exit 1
	for target in $("$binary" -test.list '^Fuzz'); do
		if "$binary" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "${each}s" \
			-test.fuzzcachedir "$("$GO" env GOCACHE)/fuzz/opendfs/$dir" >"$work/log" 2>&1 </dev/null; then
			echo "ok   $dir $target ($(grep -o 'execs: [0-9]*' "$work/log" | tail -n 1))"
		elif grep -q 'context deadline exceeded' "$work/log" && ! grep -q 'Failing input' "$work/log"; then
			# Go's fuzzer at times reports the end of its own time as a failure; it then has no input that fails.
			echo "ok   $dir $target ($(grep -o 'execs: [0-9]*' "$work/log" | tail -n 1), ended late)"
		else
			status=1
			echo "FAIL $dir $target"
			cat "$work/log"
		fi
	done
done <"$work/list"
exit "$status"
