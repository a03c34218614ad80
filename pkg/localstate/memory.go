package localstate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// Names in the directory of a Memory.
const (
	markerName    = "memory.json"
	hostName      = "host.json"
	componentsDir = "components"
	suffixFile    = ".json"
)

// Memory remembers what labels of containers cannot hold. It implements the supervisor's Memory on
// a directory. All methods may be called at once.
type Memory struct {
	dir    string
	disk   disk
	log    *slog.Logger
	marker *file
	host   *file

	mu         sync.Mutex
	components map[string]*file // by file stem
}

// componentFile is the content of a component's file. The name is in it because the file's own
// name cannot always be turned back into it.
type componentFile struct {
	Name   string           `json:"name"`
	Record component.Record `json:"record"`
}

// markerFile tells a memory without records from none.
type markerFile struct {
	Since time.Time `json:"since"` // when something was remembered first
}

// OpenMemory prepares dir, which is created with permission 0700 when it is missing, and reads
// nothing. Many components may be in it; one process at a time, see Lock.
func OpenMemory(dir string, log *slog.Logger) (*Memory, error) {
	return openMemory(dir, osDisk{}, log)
}

func openMemory(dir string, d disk, log *slog.Logger) (*Memory, error) {
	if err := d.MkdirAll(filepath.Join(dir, componentsDir)); err != nil {
		return nil, fmt.Errorf("create state directory %q: %w", dir, err)
	}
	m := &Memory{dir: dir, disk: d, log: log, components: map[string]*file{}}
	m.marker = m.file(markerName, kindMarker, normalise[markerFile], keep{})
	m.host = m.file(hostName, kindHost, normalise[component.HostRecord], keep{})
	return m, nil
}

func (m *Memory) file(name, kind string, normal func([]byte) ([]byte, error), k keep) *file {
	return &file{
		disk: m.disk, path: filepath.Join(m.dir, name), kind: kind, keep: k, log: m.log, normalise: normal,
	}
}

// normalise is data as this version understands it.
func normalise[T any](data []byte) ([]byte, error) {
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// component is the file of the component whose file stem it is.
func (m *Memory) component(stem string) *file {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, ok := m.components[stem]
	if !ok {
		f = m.file(filepath.Join(componentsDir, stem+suffixFile), kindComponent, normalise[componentFile],
			keep{"record": {"containers": {"*": {}}}})
		m.components[stem] = f
	}
	return f
}

// Load reads all records. The answer is false when nothing was ever saved here, and when something
// was lost, until the next Save or SaveHost; what could be read is returned all the same. A record
// whose newest version is damaged is the one before, and does not count as lost. The error is
// ErrNewer, or that the directory cannot be read; damage is never an error.
func (m *Memory) Load() (component.Records, bool, error) {
	r, complete, err := m.load()
	if err != nil {
		return component.Records{}, false, fmt.Errorf("load memory: %w", err)
	}
	return r, complete, nil
}

func (m *Memory) load() (component.Records, bool, error) {
	r := component.Records{Components: map[string]component.Record{}}
	_, marked, err := m.marker.load()
	if err != nil {
		return r, false, err
	}
	host, hostFrom, err := m.host.load()
	if err != nil {
		return r, false, err
	}
	if err := decode(host, &r.Host); err != nil {
		return r, false, err
	}
	stems, err := m.stems()
	if err != nil {
		return r, false, err
	}
	lost := hostFrom == fromLost
	for _, stem := range stems {
		c, from, err := m.loadComponent(stem)
		if err != nil {
			return r, false, err
		}
		if from == fromLost {
			lost = true
		}
		if from == fromCurrent || from == fromPrevious {
			r.Components[c.Name] = c.Record
		}
	}
	if lost {
		m.unmark()
	}
	return r, !lost && (marked == fromCurrent || marked == fromPrevious), nil
}

// loadComponent reads one record. A file that holds the record of a component it is not named
// after is somebody's copy and counts as nothing.
func (m *Memory) loadComponent(stem string) (componentFile, source, error) {
	var c componentFile
	f := m.component(stem)
	data, from, err := f.load()
	if err != nil {
		return c, fromNothing, err
	}
	if err := decode(data, &c); err != nil {
		return c, fromNothing, err
	}
	if data != nil && fileStem(c.Name) != stem {
		m.log.Warn("state file of another component ignored", "file", f.path, "component", c.Name)
		return c, fromNothing, nil
	}
	return c, from, nil
}

// stems lists the components that have a file, or a previous version of one.
func (m *Memory) stems() ([]string, error) {
	names, err := m.disk.Names(filepath.Join(m.dir, componentsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	stems := map[string]struct{}{}
	for _, n := range names {
		n = strings.TrimSuffix(n, suffixPrev)
		if stem, ok := strings.CutSuffix(n, suffixFile); ok && stem != "" {
			stems[stem] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(stems)), nil
}

// unmark makes Load say that something was lost until something is saved again. A marker that
// cannot be removed is no reason not to start.
func (m *Memory) unmark() {
	if err := m.marker.remove(); err != nil {
		m.log.Warn("memory marker left in place", "file", m.marker.path, "err", err)
	}
}

// Save stores the record of a component durably. A record equal to the stored one costs no write.
// After an error the old record counts, unless the new one had reached the disk already; repeat it.
func (m *Memory) Save(name string, r component.Record) error {
	if err := m.save(m.component(fileStem(name)), componentFile{Name: name, Record: r}); err != nil {
		return fmt.Errorf("save record of component %q: %w", name, err)
	}
	return nil
}

// SaveHost stores what is remembered of the host, like Save.
func (m *Memory) SaveHost(h component.HostRecord) error {
	if err := m.save(m.host, h); err != nil {
		return fmt.Errorf("save record of the host: %w", err)
	}
	return nil
}

// save stores v, then notes that there is a memory.
func (m *Memory) save(f *file, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := f.save(data); err != nil {
		return err
	}
	return m.mark()
}

func (m *Memory) mark() error {
	has, err := m.marker.has()
	if has || err != nil {
		return err
	}
	data, err := json.Marshal(markerFile{Since: time.Now().UTC()})
	if err != nil {
		return err
	}
	return m.marker.save(data)
}

// decode decodes data, when there is any, which the file has done once already.
func decode(data []byte, v any) error {
	if data == nil {
		return nil
	}
	return json.Unmarshal(data, v)
}
