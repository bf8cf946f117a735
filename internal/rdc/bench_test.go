package rdc

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"testing"
)

// size is how large the files of the wire benchmarks are.
func size(b *testing.B) int64 {
	if s := os.Getenv("RDC_BENCH_SIZE"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	return 1 << 30
}

func benchWire(b *testing.B, next, old virtual) {
	o, n := sign(b, old, old.size()), sign(b, next, next.size())
	for b.Loop() {
		w, _ := pull(b, n, o)
		b.ReportMetric(float64(w.total()), "pull-wire-B")
		b.ReportMetric(float64(w.overhead()), "pull-overhead-B")
		b.ReportMetric(float64(w.rounds), "pull-rounds")
		b.ReportMetric(float64(w.overhead()-w.needs+w.refined.asked+w.refined.answered+w.refined.needs+w.refined.literals), "refined-wire-B")
		p, _ := push(b, n, o)
		b.ReportMetric(float64(p.total()), "push-wire-B")
		b.ReportMetric(float64(p.literals), "literal-B")
	}
}

func sixteen(v virtual, edit func(virtual, int64, int64, uint64) virtual) virtual {
	step := v.size() / 17
	for i := range int64(16) {
		v = edit(v, (i+1)*step+i*12345, 64<<10, 100+uint64(i))
	}
	return v
}

func BenchmarkWireSixteenInsertions(b *testing.B) {
	old := virtual{{1, 0, size(b)}}
	benchWire(b, sixteen(old, virtual.insert), old)
}

func BenchmarkWireSixteenOverwrites(b *testing.B) {
	old := virtual{{1, 0, size(b)}}
	benchWire(b, sixteen(old, virtual.replace), old)
}

func BenchmarkWireOneByteAtTheHead(b *testing.B) {
	old := virtual{{1, 0, size(b)}}
	benchWire(b, old.insert(0, 1, 7), old)
}

func random(n int) []byte {
	b := make([]byte, n)
	stretch{stream: 3}.read(b, 0)
	return b
}

type discard struct{ n int }

func (d *discard) Write(p []byte) (int, error) { d.n += len(p); return len(p), nil }

func benchSigner(b *testing.B, workers int, coarse bool) {
	data := random(64 << 20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		opt := Options{Workers: workers, Fine: &discard{}, ChunksOnly: coarse}
		s := NewSigner(opt)
		if _, err := s.ReadFrom(bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Finish(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSignOneWorker(b *testing.B)            { benchSigner(b, 1, false) }
func BenchmarkSignOneWorkerChunksOnly(b *testing.B)  { benchSigner(b, 1, true) }
func BenchmarkSignTwoWorkersChunksOnly(b *testing.B) { benchSigner(b, 2, true) }
func BenchmarkSignTwoWorkers(b *testing.B)           { benchSigner(b, 2, false) }

func BenchmarkSignAndWholeHash(b *testing.B) {
	data := random(64 << 20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, _, err := Sign(bytes.NewReader(data), Options{Workers: 2, Fine: &discard{}}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCutChunks(b *testing.B) {
	data := random(64 << 20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		for rest := data; len(rest) > 0; {
			rest = rest[cutChunk(rest):]
		}
	}
}

func BenchmarkCutPieces(b *testing.B) {
	data := random(64 << 20)
	b.SetBytes(int64(len(data)))
	var x, y []Piece
	for b.Loop() {
		for rest := data; len(rest) > 0; rest = rest[256<<10:] {
			x, y = cutPieces(rest[:128<<10], rest[128<<10:256<<10], x[:0], y[:0])
		}
	}
}

func BenchmarkTraits(b *testing.B) {
	data := random(1 << 20)
	b.SetBytes(int64(len(data)))
	x, _ := cutPieces(data, nil, nil, nil)
	for b.Loop() {
		s := newSketch()
		s.add(x)
	}
}

func BenchmarkRawBLAKE3(b *testing.B) {
	data := random(64 << 20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		for rest := data; len(rest) > 0; rest = rest[128<<10:] {
			sumOf(rest[:128<<10])
		}
	}
}

// BenchmarkWireFiles is the wire of two real files, named by RDC_BENCH_OLD and
// RDC_BENCH_NEW.
func BenchmarkWireFiles(b *testing.B) {
	o, n := open(b, os.Getenv("RDC_BENCH_OLD")), open(b, os.Getenv("RDC_BENCH_NEW"))
	b.ResetTimer()
	for b.Loop() {
		w, _ := pull(b, n, o)
		b.ReportMetric(float64(n.size), "file-B")
		b.ReportMetric(float64(w.total()), "pull-wire-B")
		b.ReportMetric(float64(w.overhead()), "pull-overhead-B")
		b.ReportMetric(float64(w.literals), "literal-B")
		b.ReportMetric(float64(w.rounds), "pull-rounds")
		b.ReportMetric(float64(w.refined.literals), "refined-literal-B")
		b.ReportMetric(float64(w.overhead()-w.needs+w.refined.asked+w.refined.answered+w.refined.needs), "refined-overhead-B")
		b.ReportMetric(float64(w.refined.rounds), "refine-rounds")
		if name := os.Getenv("RDC_BENCH_LITERALS"); name != "" {
			dump(b, name, n, o)
		}
		b.ReportMetric(float64(Similar(n.sig.Traits, o.sig.Traits)), "traits")
	}
}

// dump writes the new bytes before and after refining to files, to be
// compressed by hand.
func dump(b *testing.B, name string, n, o *version) {
	_, needs := push(b, n, o)
	better, err := Refine(needs, []io.ReaderAt{o.data}, []int64{o.size}, func(q GrainRequest) ([]byte, error) {
		return AnswerGrains(nil, q, n.data, n.size)
	})
	if err != nil {
		b.Fatal(err)
	}
	for end, needs := range map[string]*Needs{".matched": needs, ".refined": better} {
		data, err := io.ReadAll(literals(needs, n.data))
		if err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(name+end, data, 0o600); err != nil {
			b.Fatal(err)
		}
	}
}

func open(b *testing.B, name string) *version {
	if name == "" {
		b.Skip("no files are named")
	}
	f, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() }) // read only
	info, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	return sign(b, f, info.Size())
}

func BenchmarkHostile(b *testing.B) {
	files := hostile(16 << 20)
	files["random"] = random(16 << 20)
	for name, data := range files {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			shifted := append([]byte{1}, data...)
			for b.Loop() {
				o, n := signBytes(b, data), signBytes(b, shifted)
				if _, err := Match(n.seed(), []Seed{o.seed()}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
