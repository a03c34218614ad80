package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// stamped is set by the linker: -ldflags "-X github.com/gantryd/gantryd/internal/version.stamped=v1.4.0".
var stamped string //nolint:gochecknoglobals // the linker can set nothing else; nobody writes it at run time

// unknown is the version of a binary that was built without any information.
const unknown = "devel"

// revisionLen is how much of a commit's hash is shown.
const revisionLen = 12

// Info is where a binary comes from.
type Info struct {
	Version  string // "v1.4.0", "v1.4.0-3-g3f2a9c1", or "devel" when nobody said
	Revision string // commit, 12 digits, with "+dirty" when files were changed; may be empty
	Go       string // "go1.26.8"
	Platform string // "linux/amd64"
}

// Get returns where the running binary comes from.
func Get() Info {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		build = &debug.BuildInfo{}
	}
	return read(stamped, build)
}

// String is the one-line form, such as "v1.4.0 (3f2a9c1d7b04, go1.26.8, linux/amd64)".
func (i Info) String() string {
	if i.Revision == "" {
		return fmt.Sprintf("%s (%s, %s)", i.Version, i.Go, i.Platform)
	}
	return fmt.Sprintf("%s (%s, %s, %s)", i.Version, i.Revision, i.Go, i.Platform)
}

func read(stamped string, build *debug.BuildInfo) Info {
	info := Info{
		Version:  stamped,
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if info.Version == "" {
		info.Version = strings.Trim(build.Main.Version, "()") // "(devel)" in a checkout
	}
	if info.Version == "" {
		info.Version = unknown
	}
	dirty := ""
	for _, s := range build.Settings {
		switch {
		case s.Key == "vcs.revision":
			info.Revision = s.Value[:min(len(s.Value), revisionLen)]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+dirty"
		}
	}
	if info.Revision != "" {
		info.Revision += dirty
	}
	return info
}
