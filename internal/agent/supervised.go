package agent

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gantryd/gantryd/internal/handover"
	"github.com/gantryd/gantryd/internal/sdnotify"
)

// supervisedMark is a file in the state directory of an agent that a service manager runs. It stays when the
// agent ends: what comes next may be a restart, and an agent that a command started would be in its way.
const supervisedMark = "supervised"

// MarkSupervised notes for commands whether a service manager runs the agent of dir, whose lock the caller has.
func MarkSupervised(dir string, yes bool, log *slog.Logger) {
	path := filepath.Join(dir, supervisedMark)
	var err error
	if yes {
		err = os.WriteFile(path, []byte("A service manager runs this agent; commands wait for it and start none.\n"), 0o600)
	} else if err = os.Remove(path); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		log.Warn("commands are not told who runs the agent", "err", err)
	}
}

// supervised reports whether the agent of dir was run by a service manager last.
func supervised(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, supervisedMark))
	return err == nil
}

// ownEnvironment is environ without what is about the command that starts an agent, or about its service.
func ownEnvironment(environ []string) []string {
	return slices.DeleteFunc(sdnotify.Environment(environ), func(v string) bool {
		return strings.HasPrefix(v, handover.Variable+"=")
	})
}
