#!/bin/sh
# Regenerates the Go code beside every .proto file. The plugins are pinned in tools/go.mod; protoc is Debian's protobuf-compiler.
set -eu
GO=${GO:-go}
command -v protoc >/dev/null || {
	echo "proto: protoc is missing; apt-get install protobuf-compiler" >&2
	exit 1
}
tool() { "$GO" tool -modfile=tools/go.mod -n "$1"; }
files=$(find internal -name '*.proto' | sort)
[ -n "$files" ] || exit 0
# shellcheck disable=SC2086  # a list of words
protoc -I internal \
	--plugin=protoc-gen-go="$(tool protoc-gen-go)" --go_out=internal --go_opt=paths=source_relative $files
services=$(grep -lE '^service ' $files || true)
[ -z "$services" ] && exit 0
# shellcheck disable=SC2086
protoc -I internal \
	--plugin=protoc-gen-connect-go="$(tool protoc-gen-connect-go)" --connect-go_out=internal --connect-go_opt=paths=source_relative $services
