package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gantryd/gantryd/pkg/component"
)

// placeholder in a binding's external path stands for the first 12 characters of the ID of the
// container. Other braces mean themselves.
//
// A container's mounts are fixed when it is created, and its ID is known only afterwards. But the
// Engine looks a mount's source up when the container starts: it follows symbolic links then. So
// the container is created with a source that does not exist yet, next to where the placeholder
// is, and before the start this becomes a symbolic link to the real path. The link stays as long as
// the container: a restart by hand, docker cp and volumesFrom of another container look it up
// again. Remove removes it; one whose container was removed by hand stays, and does no harm.
//
// All this needs an Engine that sees the files of this process.
const placeholder = "{container_id}"

// linkPrefix starts the names of our symbolic links.
const linkPrefix = ".gantryd-"

// A link is a symbolic link to make before a container starts.
type link struct {
	path   string
	target string // with the placeholder
}

// bindings returns the mounts in Docker's form, and the links they need. name is unique.
func bindings(bs []component.Binding, name string) (binds []string, links []link, err error) {
	for i, b := range bs {
		source := b.External
		switch {
		case source == "" || b.Volume == "":
			return nil, nil, fmt.Errorf("binding %q to %q: a path is missing", b.External, b.Volume)
		case strings.Contains(source, ":"):
			return nil, nil, fmt.Errorf("binding %q: Docker Engine takes no path with a colon", source)
		}
		if before, _, found := strings.Cut(source, placeholder); found {
			if !filepath.IsAbs(source) {
				return nil, nil, fmt.Errorf("binding %q: a path with %s must start with a slash", source, placeholder)
			}
			source = before[:strings.LastIndexByte(before, '/')+1] + linkPrefix + name + "-" + strconv.Itoa(i)
			links = append(links, link{path: source, target: b.External})
		}
		binds = append(binds, source+":"+b.Volume)
	}
	return binds, links, nil
}

func paths(links []link) []string {
	out := make([]string, 0, len(links))
	for _, l := range links {
		out = append(out, l.path)
	}
	return out
}

// makeLinks makes the directories that are missing, as Docker does, and the links to them.
func makeLinks(links []link, id string) error {
	for _, l := range links {
		target := strings.ReplaceAll(l.target, placeholder, component.Short(id))
		if _, err := os.Stat(target); errors.Is(err, fs.ErrNotExist) {
			if err := os.MkdirAll(target, 0o755); err != nil {
				return fmt.Errorf("make directory of binding %q: %w", l.target, err)
			}
		}
		if err := os.Symlink(target, l.path); err != nil {
			return fmt.Errorf("prepare binding %q: %w", l.target, err)
		}
	}
	return nil
}

// removeLinks removes links that we made, and nothing else.
func removeLinks(paths []string) {
	for _, p := range paths {
		if !strings.HasPrefix(filepath.Base(p), linkPrefix) {
			continue
		}
		if info, err := os.Lstat(p); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			_ = os.Remove(p) // a link without a container does no harm
		}
	}
}
