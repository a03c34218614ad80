package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// await is a task that ends when a test wants it to, and leaves a trace of when it ran.
func await(file string, stdout io.Writer) int {
	note := func(what string) error {
		f, err := os.OpenFile(file+".log", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(f, what); err != nil {
			return err
		}
		return f.Close()
	}
	fail := func(err error) int {
		fmt.Fprintln(stdout, err)
		return 1
	}
	if err := note("begin"); err != nil {
		return fail(err)
	}
	fmt.Fprintln(stdout, "waiting for "+file)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		b, err := os.ReadFile(file)
		text := strings.TrimSpace(string(b))
		if err != nil || text == "" {
			continue
		}
		code, err := strconv.Atoi(text)
		if err == nil {
			err = note("end")
		}
		if err != nil {
			return fail(err)
		}
		return code
	}
	return 1
}
