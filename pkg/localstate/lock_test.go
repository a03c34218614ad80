package localstate

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const lockEnv = "GANTRYD_TEST_LOCK_DIR"

// holdUntilTold takes the lock, says so and holds it until standard input ends.
func holdUntilTold(dir string) error {
	l, err := Lock(dir)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "locked")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return l.Unlock()
}

// holdLock starts another process that has the lock of dir. end closes its input.
func holdLock(t *testing.T, dir string) (cmd *exec.Cmd, end func()) {
	t.Helper()
	cmd = exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), lockEnv+"="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "locked\n" {
		t.Fatalf("other process says %q, %v", line, err)
	}
	return cmd, func() { _ = in.Close() }
}

func TestLockIsForOneProcess(t *testing.T) {
	tests := []struct {
		name string
		end  func(t *testing.T, cmd *exec.Cmd, end func())
	}{
		{"until it is given up", func(t *testing.T, cmd *exec.Cmd, end func()) {
			end()
			if err := cmd.Wait(); err != nil {
				t.Errorf("other process: %v", err)
			}
		}},
		{"until its holder is killed", func(t *testing.T, cmd *exec.Cmd, end func()) {
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
			_ = cmd.Wait()
			end()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			cmd, end := holdLock(t, dir)
			_, err := Lock(dir)
			if want := fmt.Sprintf("process ID %d", cmd.Process.Pid); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("Lock = %v, want ErrLocked with the directory and %s", err, want)
			}
			tt.end(t, cmd, end)
			l, err := Lock(dir)
			if err != nil {
				t.Fatalf("Lock of a free directory = %v", err)
			}
			if err := l.Unlock(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLockTwiceInOneProcess(t *testing.T) {
	dir := t.TempDir()
	l, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("second Lock = %v, want ErrLocked", err)
	}
	if i, err := os.Stat(filepath.Join(dir, lockName)); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("lock file: %v, %v", i, err)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := l.Unlock(); err == nil {
		t.Error("second Unlock = nil, want an error")
	}
	l, err = Lock(dir)
	if err != nil {
		t.Fatalf("Lock after Unlock = %v", err)
	}
	if err := l.Unlock(); err != nil {
		t.Error(err)
	}
}

func TestLockSaysWhatIsWrongWithTheDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	writeFile(t, path, nil)
	if _, err := Lock(path); err == nil || errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) {
		t.Errorf("Lock of a file = %v, want an error that names it", err)
	}
}

func TestOwnerIsWhoHasTheLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if got := Owner(dir); got != 0 {
		t.Errorf("Owner of no directory = %d", got)
	}
	cmd, end := holdLock(t, dir)
	if got := Owner(dir); got != cmd.Process.Pid {
		t.Errorf("Owner = %d, want %d", got, cmd.Process.Pid)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	end()
	if got := Owner(dir); got != 0 {
		t.Errorf("Owner after its death = %d", got)
	}
	// The ID of a process that was killed is given out again.
	writeFile(t, filepath.Join(dir, lockName), fmt.Appendf(nil, "%d\n", os.Getpid()))
	if got := Owner(dir); got != 0 {
		t.Errorf("Owner = %d, a process that has not opened the lock", got)
	}
}

func TestAdoptedLockNamesItsOwnerUntilOwn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	l, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	before := []byte("1\n") // as if another process had written its ID
	writeFile(t, filepath.Join(dir, lockName), before)
	fd, err := syscall.Dup(int(l.File().Fd()))
	if err != nil {
		t.Fatal(err)
	}
	heir, err := AdoptLock(os.NewFile(uintptr(fd), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	named := func() string {
		b, err := os.ReadFile(filepath.Join(dir, lockName))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := named(); got != string(before) {
		t.Errorf("after AdoptLock the file names %q, want %q: a signal would reach a process that has not taken over", got, before)
	}
	heir.Own()
	if got, want := named(), fmt.Sprintf("%d\n", os.Getpid()); got != want {
		t.Errorf("after Own the file names %q, want %q", got, want)
	}
	if err := l.Leave(); err != nil {
		t.Error(err)
	}
	if _, err := Lock(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("Lock = %v, want ErrLocked: the heir has it", err)
	}
	if err := heir.Unlock(); err != nil {
		t.Error(err)
	}
}
