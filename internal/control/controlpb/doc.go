// Package controlpb is the generated code of the management API, made from
// control.proto by `make proto`. The messages are the API: the daemon fills
// them, the command line prints them, `--json` and curl show them as they are.
// Nothing here reaches the engine or the replication protocol.
package controlpb
