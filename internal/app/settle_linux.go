package app

import (
	"bufio"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// releaseProgram gives back the pages of the program that its start needed: most of what a resting
// daemon would hold otherwise, for the libraries linked into it prepare themselves whether they are
// used or not. The kernel has them in its cache and maps those again that are touched again.
func releaseProgram() error {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer f.Close()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		begin, end, ok := programPages(lines.Text(), exe)
		if !ok {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, begin, end-begin, unix.MADV_DONTNEED); errno != 0 {
			return os.NewSyscallError("madvise", errno)
		}
	}
	return nil
}

// programPages reads one line of /proc/self/maps, such as "00400000-00fdf000 r-xp 00000000 fe:00 1
// /usr/bin/gantryd", and returns the addresses if they hold nothing but the file exe: pages that
// could be written hold what was written.
func programPages(line, exe string) (begin, end uintptr, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 6 || strings.Join(fields[5:], " ") != exe || fields[1] != "r-xp" && fields[1] != "r--p" {
		return 0, 0, false
	}
	from, to, _ := strings.Cut(fields[0], "-")
	b, err1 := strconv.ParseUint(from, 16, 64)
	e, err2 := strconv.ParseUint(to, 16, 64)
	if err1 != nil || err2 != nil || b >= e {
		return 0, 0, false
	}
	return uintptr(b), uintptr(e), true
}
