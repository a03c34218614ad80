package config

import (
	"maps"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/gantryd/gantryd/pkg/component"
)

var (
	hostnameRegexp   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)
	volumesRegexp    = regexp.MustCompile(`^/?[A-Za-z0-9][A-Za-z0-9_.-]*(:(ro|rw|z|Z))?$`)
	capabilityRegexp = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
	networkRegexp    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
)

func sortedKeys(of map[string]string) []string { return slices.Sorted(maps.Keys(of)) }

func (m *mistakes) process(at string, s component.Spec) {
	m.argv(at+".command", s.Command)
	m.argv(at+".entrypoint", s.Entrypoint)
	m.argv(at+".preDeploy.command", s.PreDeploy.Command)
	if m.has(at+".preDeploy") && len(s.PreDeploy.Command) == 0 {
		m.add(at+".preDeploy", "a task needs a command")
	}
	if s.WorkingDir != "" && !path.IsAbs(s.WorkingDir) {
		m.add(at+".workingDir", "%s is not an absolute path", short(s.WorkingDir))
	}
	const longest = 63
	if s.Hostname != "" && (len(s.Hostname) > longest || !hostnameRegexp.MatchString(s.Hostname)) {
		m.add(at+".hostname", "%s is not a host name: letters, digits and \"-\", parts joined by \".\", at most %d", short(s.Hostname), longest)
	}
	if strings.ContainsAny(s.User, " \t\r\n") {
		m.add(at+".user", "%s is not a user: it holds a space", short(s.User))
	}
}

func (m *mistakes) mounts(at string, s component.Spec) {
	for i, from := range s.VolumesFrom {
		if !volumesRegexp.MatchString(from) {
			m.add(index(at+".volumesFrom", i), "%s is not the name of a container", short(from))
		}
	}
	taken := map[string]string{}
	for i, b := range s.Bindings {
		here := index(at+".bindings", i)
		m.required(here, "external", b.External, "Volume Binding")
		m.required(here, "volume", b.Volume, "Volume Binding")
		m.mountable(here+".external", b.External)
		m.mountPoint(here+".volume", b.Volume, taken)
	}
	for _, p := range sortedKeys(s.Tmpfs) {
		here := join(at+".tmpfs", p)
		if p == "" {
			m.add(here, "a tmpfs has a path")
		}
		m.mountPoint(here, p, taken)
	}
}

// mountable checks a path that Docker Engine takes in the form host:container.
func (m *mistakes) mountable(at, p string) {
	switch {
	case p == "":
	case !path.IsAbs(p):
		m.add(at, "%s is not an absolute path", short(p))
	case strings.Contains(p, ":"):
		m.add(at, "%s holds a colon, which cannot be mounted", short(p))
	}
}

// mountPoint checks a path in the container; taken are those in use, by whom.
func (m *mistakes) mountPoint(at, p string, taken map[string]string) {
	m.mountable(at, p)
	clean := path.Clean(p)
	switch before, twice := taken[clean]; {
	case p == "":
	case clean == "/":
		m.add(at, "nothing can be mounted on the root of the container")
	case twice:
		m.add(at, "%s is mounted on twice, first by %s", short(clean), before)
	default:
		taken[clean] = at
	}
}

func (m *mistakes) limits(at string, s component.Spec) {
	m.memory(at+".resources.memory", s.Resources.Memory)
	const leastCPUs = 0.01
	if c := s.Resources.CPUs; c < 0 || c > 0 && c < leastCPUs {
		m.add(at+".resources.cpus", "%v is out of range: at least %v, or 0 for no limit", c, leastCPUs)
	}
	if s.Resources.Pids < 0 {
		m.add(at+".resources.pids", "%d is negative; 0 means no limit", s.Resources.Pids)
	}
	m.ulimits(at+".ulimits", s.Ulimits)
	for i, c := range s.CapAdd {
		m.capability(index(at+".capAdd", i), c)
		if slices.ContainsFunc(s.CapDrop, func(d string) bool { return capability(d) == capability(c) }) {
			m.add(index(at+".capAdd", i), "%s is in capDrop too", short(c))
		}
	}
	for i, c := range s.CapDrop {
		m.capability(index(at+".capDrop", i), c)
	}
}

func (m *mistakes) memory(at, size string) {
	const least, most = 6 * units.MiB, 1 << 50 // Docker Engine refuses less
	if size == "" && !m.has(at) {
		return
	}
	switch n, err := units.RAMInBytes(size); {
	case err != nil:
		m.add(at, "%s is not a size such as 512m or 2g", short(size))
	case n < least || n > most:
		m.add(at, "%s is out of range: at least 6m", short(size))
	}
}

func (m *mistakes) ulimits(at string, limits []component.Ulimit) {
	first := map[string]int{}
	for i, u := range limits {
		here := index(at, i)
		m.required(here, "name", u.Name, "Ulimit")
		if _, err := (&units.Ulimit{Name: u.Name}).GetRlimit(); err != nil && u.Name != "" {
			m.add(here+".name", "%s is not a resource limit such as nofile", short(u.Name))
		}
		if before, twice := first[u.Name]; twice && u.Name != "" {
			m.add(here+".name", "%s is set twice, first by %s", short(u.Name), index(at, before))
		} else {
			first[u.Name] = i
		}
		switch {
		case u.Soft < -1:
			m.add(here+".soft", "%d is negative; -1 means no limit", u.Soft)
		case u.Hard < -1:
			m.add(here+".hard", "%d is negative; -1 means no limit", u.Hard)
		case u.Hard != -1 && (u.Soft > u.Hard || u.Soft == -1):
			m.add(here+".soft", "the soft limit %d is above the hard limit %d", u.Soft, u.Hard)
		}
	}
}

// capability is the form in which two spellings of a capability are the same.
func capability(c string) string { return strings.TrimPrefix(strings.ToUpper(c), "CAP_") }

func (m *mistakes) capability(at, c string) {
	if !capabilityRegexp.MatchString(capability(c)) {
		m.add(at, "%s is not a capability such as NET_ADMIN", short(c))
	}
}

func (m *mistakes) network(at string, s component.Spec) {
	first := map[string]int{}
	for i, n := range s.Networks {
		here := index(at+".networks", i)
		if !networkRegexp.MatchString(n) {
			m.add(here, "%s is not the name of a network", short(n))
		}
		if before, twice := first[n]; twice {
			m.add(here, "%s is given twice, first by %s", short(n), index(at+".networks", before))
		} else {
			first[n] = i
		}
		switch alone := n == "host" || n == "none"; {
		case alone && len(s.Networks) > 1:
			m.add(here, "the network %s excludes others", n)
		case n == "none" && len(s.Ports)+len(s.DefineComponentLinks) > 0:
			m.add(here, "nothing can be forwarded to a container without network")
		}
	}
	for i, d := range s.DNS {
		if _, err := netip.ParseAddr(d); err != nil {
			m.add(index(at+".dns", i), "%s is not an IP address", short(d))
		}
	}
}

// timing checks what steers gantryd itself.
func (m *mistakes) timing(at string, s component.Spec) {
	const longestReady = int(24 * time.Hour / time.Millisecond)
	if s.ReadyTimeout < 0 || s.ReadyTimeout > longestReady {
		m.add(at+".readyTimeout", "%d is out of range: 0 to %d milliseconds", s.ReadyTimeout, longestReady)
	}
	least, most := s.Restart.MinDelay, s.Restart.MaxDelay
	if least == 0 {
		least = component.Duration(component.DefaultRestartMin)
	}
	if most == 0 {
		most = component.Duration(component.DefaultRestartMax)
	}
	if least > most {
		m.add(at+".restart.minDelay", "%s is longer than maxDelay, %s", least, most)
	}
	if s.Drain.Rate < 0 {
		m.add(at+".drain.rate", "%d is negative; 0 means all at once", s.Drain.Rate)
	}
	const mostHeld = 1_000_000
	if s.Hold.Max < 0 || s.Hold.Max > mostHeld {
		m.add(at+".hold.max", "%d is out of range: 0 to %d", s.Hold.Max, mostHeld)
	}
	m.rollout(at+".rollout", s)
}

func (m *mistakes) rollout(at string, s component.Spec) {
	r := s.Rollout
	if r.MaxParallel == 0 && m.has(at+".maxParallel") {
		m.add(at+".maxParallel", "%d is out of range: at least 1", r.MaxParallel)
	}
	m.policy(at, s)
	m.oneOf(at+".order", r.Order, component.OrderStartFirst, component.OrderStopFirst)
	if s.Exclusive && r.Order == component.OrderStartFirst {
		m.add(at+".order", "an exclusive component cannot be start-first: its two containers would run at once")
	}
}
