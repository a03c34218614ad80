package app

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestProgramPages(t *testing.T) {
	const exe = "/usr/bin/gantryd"
	tests := []struct {
		name, line string
		ok         bool
	}{
		{"code", "00400000-00fdf000 r-xp 00000000 fe:00 10003147    /usr/bin/gantryd", true},
		{"constants", "00fdf000-01d97000 r--p 00bdf000 fe:00 10003147    /usr/bin/gantryd", true},
		{"variables", "01d97000-01e25000 rw-p 01997000 fe:00 10003147    /usr/bin/gantryd", false},
		{"memory", "36c7f1800000-36c7f2000000 rw-p 00000000 00:00 0", false},
		{"another file", "00400000-00fdf000 r-xp 00000000 fe:00 10003147    /usr/bin/gantry", false},
		{"shared", "00400000-00fdf000 r-xs 00000000 fe:00 10003147    /usr/bin/gantryd", false},
		{"nonsense", "zz r-xp 0 0 0 /usr/bin/gantryd", false},
		{"empty", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if begin, end, ok := programPages(tt.line, exe); ok != tt.ok {
				t.Errorf("programPages(%q) = %x, %x, %v, want ok %v", tt.line, begin, end, ok, tt.ok)
			}
		})
	}
}

// The program goes on as if nothing had been, on fewer pages.
func TestReleaseProgram(t *testing.T) {
	before := filePages(t)
	if err := releaseProgram(); err != nil {
		t.Fatal(err)
	}
	if after := filePages(t); after >= before {
		t.Errorf("%d KiB of files resident, %d before", after, before)
	}
}

// filePages is how much of files the process has resident, in KiB.
func filePages(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "RssFile:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kib
		}
	}
	t.Skip("the kernel does not count RssFile")
	return 0
}
