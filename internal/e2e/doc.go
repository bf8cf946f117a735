// Package e2e tells stories over the finished static binary, and measures it.
//
// Nothing of the product is imported: a member is a process of bin/dfs (named by
// the environment variable DFS), driven by its commands and looked at from
// outside, through its tree, its state directory, `dfs status --json`, the
// interface counters and /proc. Members stand in network namespaces of their own,
// joined by a switch that the story can cut, heal and shape; their trees and
// states stand on fresh filesystem images on loop devices, so that a power cut
// can be played by copying the backing files under a stopped daemon.
//
// The harness, one noun a file: netns (namespaces, links, counters), delay
// (round-trip time), image (filesystems on loop devices), member (one daemon),
// cluster (several, with their domain file), status (what a member says of
// itself), tree (makers of trees), equal (two trees compared, twice), edit (what
// users do), ledger (which versions users closed and which they replaced),
// confirmed (what `dfs status --wait` promised), table (figures beside bars).
//
// Three kinds of tests: stories (Test…), part of every run and skipped, visibly,
// where root, a program or the binary is missing; benchmarks (TestBench…, with
// DFS_BENCH=1; BENCH names rows, PEERS=all adds peers, DFS_BENCH_OUT a file for
// the results as JSON); and the same stories for hours (TestSoak…, DFS_SOAK=1).
//
// What a run leaves behind when it is killed (namespaces, mounts, loop devices)
// carries its process id in its name and is removed at the start of the next run.
//
// Test only: nothing imports this package.
package e2e
