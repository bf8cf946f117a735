// Package wirepb is the generated code of the protocol's headers, made from
// wire.proto by protoc and protoc-gen-go. Only package wire imports it, turns
// its messages into the nouns of repl and checks every field on the way.
package wirepb

//go:generate protoc --go_out=. --go_opt=paths=source_relative wire.proto
