package cli

import (
	"os"
	"os/exec"
	"path/filepath"
)

// Self is the path that this binary was started by, so that what is found there later is its successor: a
// symbolic link stays one. When that cannot be told it is the file itself.
func Self() []string {
	exe, err := os.Executable()
	if err != nil {
		return []string{os.Args[0]}
	}
	name, err := exec.LookPath(os.Args[0])
	if err != nil {
		return []string{exe}
	}
	if name, err = filepath.Abs(name); err != nil || !sameFile(name, "/proc/self/exe") {
		return []string{exe}
	}
	return []string{name}
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}
