package apiserver

import (
	"fmt"
	"slices"
	"time"
)

// A Role says what a credential may do.
type Role string

// The roles. Each may do what those before it may.
const (
	Viewer   Role = "viewer"   // read how things stand
	Deployer Role = "deployer" // roll out, go back, say words about rollouts
	Admin    Role = "admin"    // read and change the configuration, which holds the environment of containers
)

//nolint:gochecknoglobals // a constant table
var roles = []Role{Viewer, Deployer, Admin}

// ParseRole is the role of that name.
func ParseRole(s string) (Role, error) {
	if !slices.Contains(roles, Role(s)) {
		return "", fmt.Errorf("role %q is none of viewer, deployer, admin", s)
	}
	return Role(s), nil
}

// includes reports whether who has r may do what needs other. A role of a newer version includes nothing.
func (r Role) includes(other Role) bool {
	i := slices.Index(roles, r)
	return i >= 0 && i >= slices.Index(roles, other)
}

// An identity is who a request comes from.
type identity struct {
	who      string // as history shows it, such as token:ci
	role     Role
	projects []string  // nil: all
	token    string    // ID; empty for other credentials
	expires  time.Time // zero: never
}

// sees reports whether the identity has any right in a project.
func (i identity) sees(project string) bool {
	return i.projects == nil || slices.Contains(i.projects, project)
}

// may reports whether the identity may do in a project what needs the role. No project is what concerns none.
func (i identity) may(role Role, project string) bool {
	return i.role.includes(role) && (project == "" || i.sees(project))
}
