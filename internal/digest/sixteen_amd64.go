package digest

import "golang.org/x/sys/cpu"

// wide says whether this processor and its system know the instructions of
// sixteen.
var wide = cpu.X86.HasAVX512F && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512DQ

// sixteen hashes the sixteen inputs at in, in+stride, … of blocks blocks each, in
// step, and writes their chaining values to out, one after the other. Input i has
// the counter counter + i*step, whose low 32 bits must not run over; the flags are
// those of every block, of the first one and of the last.
//
//go:noescape
func sixteen(in *byte, stride, blocks, counter uint64, flags, first, last, step uint32, out *byte)
