package etcdstate

import (
	"fmt"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// root is where the original kept its keys, so that old tools still find them.
const root = "/gantryd/projects/"

// maxName bounds the names that become parts of keys.
const maxName = 253

// keys makes the keys of one project.
type keys struct{ prefix string }

func projectKeys(project string) keys { return keys{root + project + "/"} }

func (k keys) config() string   { return k.prefix + "config" }
func (k keys) adopted() string  { return k.prefix + "adopted" }
func (k keys) identity() string { return k.prefix + "identity" }

// drain is where an operator says that a host is out of service. These keys have a place of their own, so that all of
// them can be compared at once.
func (k keys) drain(host string) string { return k.drains() + host }
func (k keys) drains() string           { return k.prefix + "drains/" }

func (k keys) component(name string) string      { return k.prefix + "components/" + name + "/" }
func (k keys) state(name string) string          { return k.component(name) + "state" }
func (k keys) rollout(name string) string        { return k.component(name) + "rollout" }
func (k keys) turns(name string) string          { return k.component(name) + "turns/" }
func (k keys) turn(name string, n int) string    { return k.turns(name) + strconv.Itoa(n) }
func (k keys) changing(name, host string) string { return k.turns(name) + "changing/" + host }
func (k keys) host(name, host string) string     { return k.component(name) + "hosts/" + host }

// releases is where past states of a component are. Everything that daemons read sorts before "releases",
// so that they neither list nor watch it.
func (k keys) releases(name string) string { return k.prefix + "releases/" + name + "/" }

func (k keys) release(name string, generation int64) string {
	return k.releases(name) + strconv.FormatInt(generation, 10)
}

// live makes a get or a watch of the prefix one of what is live: all of the project but past states.
func (k keys) live() clientv3.OpOption { return clientv3.WithRange(k.prefix + "releases/") }

func (k keys) machine(host string) string { return k.prefix + "machines/" + host + "/state" }

type kind int

const (
	kindOther kind = iota // not ours, or of a newer version: left alone
	kindConfig
	kindAdopted
	kindIdentity
	kindState
	kindRollout
	kindTurn
	kindChanging
	kindHost
	kindMachine
	kindDrain
)

// place is what a key is about.
type place struct {
	kind      kind
	component string
	host      string
	slot      int
}

// parse is the inverse of the functions above.
func (k keys) parse(key string) place {
	rest, ok := strings.CutPrefix(key, k.prefix)
	if !ok {
		return place{}
	}
	switch p := strings.Split(rest, "/"); {
	case rest == "config":
		return place{kind: kindConfig}
	case rest == "adopted":
		return place{kind: kindAdopted}
	case rest == "identity":
		return place{kind: kindIdentity}
	case len(p) == 3 && p[0] == "machines" && p[1] != "" && p[2] == "state":
		return place{kind: kindMachine, host: p[1]}
	case len(p) == 2 && p[0] == "drains" && p[1] != "":
		return place{kind: kindDrain, host: p[1]}
	case len(p) < 3 || p[0] != "components" || p[1] == "":
		return place{}
	case len(p) == 3 && p[2] == "state":
		return place{kind: kindState, component: p[1]}
	case len(p) == 3 && p[2] == "rollout":
		return place{kind: kindRollout, component: p[1]}
	case len(p) == 4 && p[2] == "hosts" && p[3] != "":
		return place{kind: kindHost, component: p[1], host: p[3]}
	case len(p) == 5 && p[2] == "turns" && p[3] == "changing" && p[4] != "":
		return place{kind: kindChanging, component: p[1], host: p[4]}
	case len(p) == 4 && p[2] == "turns":
		slot, err := strconv.Atoi(p[3])
		if err != nil || slot < 0 || strconv.Itoa(slot) != p[3] {
			return place{}
		}
		return place{kind: kindTurn, component: p[1], slot: slot}
	}
	return place{}
}

// checkName refuses what cannot be one part of a key.
func checkName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%s has no name", what)
	case len(name) > maxName:
		return fmt.Errorf("name of %s is longer than %d bytes", what, maxName)
	}
	for _, r := range name {
		if r == '/' || r < ' ' || r == 0x7f {
			return fmt.Errorf("name of %s %q has a character that cannot be in a key", what, name)
		}
	}
	return nil
}
