package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// removeLeftovers takes away what earlier runs left behind because they were killed: namespaces, mounts, loop devices,
// directories. Each carries the id of the process that made it; what belongs to a living process stays.
func removeLeftovers() {
	if os.Geteuid() == 0 {
		list, _ := try("ip", "netns", "list")
		for line := range strings.Lines(list) {
			name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			if dead(name, netnsPrefix) {
				removeNetns(name)
			}
		}
		unmountLeftovers()
		detachLeftovers()
	}
	dirs, _ := filepath.Glob("/tmp/" + workPrefix + "*")
	for _, dir := range dirs {
		if dead(filepath.Base(dir), workPrefix) {
			_ = os.RemoveAll(dir)
		}
	}
}

// unmountLeftovers unmounts, innermost first, what is mounted in work directories of dead runs.
func unmountLeftovers() {
	text, _ := os.ReadFile("/proc/self/mounts")
	var points []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && deadPath(f[1]) {
			points = append(points, f[1])
		}
	}
	for i := len(points) - 1; i >= 0; i-- {
		_, _ = try("umount", "-l", points[i])
	}
}

// detachLeftovers detaches loop devices over files of dead runs; several layers may lie on each other.
func detachLeftovers() {
	for range 3 {
		list, _ := try("losetup", "-ln", "-O", "NAME,BACK-FILE")
		for line := range strings.Lines(list) {
			if f := strings.Fields(line); len(f) > 1 && deadPath(f[1]) {
				_, _ = try("losetup", "-d", f[0])
			}
		}
	}
}

// deadPath reports whether a path lies in the work directory of a run that is over.
func deadPath(path string) bool {
	rest, ok := strings.CutPrefix(path, "/tmp/")
	name, _, _ := strings.Cut(rest, "/")
	return ok && dead(name, workPrefix)
}

// dead reports whether a name is PREFIX, process id, '-', and the process is gone.
func dead(name, prefix string) bool {
	rest, ok := strings.CutPrefix(name, prefix)
	id, _, found := strings.Cut(rest, "-")
	pid, err := strconv.Atoi(id)
	if !ok || !found || err != nil {
		return false
	}
	_, err = os.Stat("/proc/" + strconv.Itoa(pid))
	return os.IsNotExist(err)
}
