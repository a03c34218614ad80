package engine

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-units"

	"github.com/gantryd/gantryd/pkg/component"
)

// createOptions are the parameters of a new container.
type createOptions struct {
	config  *container.Config
	host    *container.HostConfig
	network *network.NetworkingConfig
	more    []string // networks to connect to before the start: old Engines take one at creation
}

// options translates a release to the Engine's terms. It is pure.
func options(r component.StartRequest, imageID string, labels map[string]string, binds []string) (createOptions, error) {
	s := r.Release.Spec
	limits, err := resources(s)
	if err != nil {
		return createOptions{}, err
	}
	env := environment(s.EnvironmentVariables, r.Env)
	for _, entry := range env { // the Engine would refuse with all of the environment in its answer
		if name, value, _ := strings.Cut(entry, "="); name == "" || strings.ContainsRune(value, 0) {
			return createOptions{}, fmt.Errorf("environment variable %q: no name, or a zero byte in the value", name)
		}
	}
	stopTimeout := seconds(s.StopWithin()) // for a stop that is not ours, such as the Engine's own end
	out := createOptions{
		config: &container.Config{
			Image:       imageID,
			Hostname:    s.Hostname,
			User:        s.User,
			Env:         env,
			Cmd:         argv(r),
			Entrypoint:  s.Entrypoint,
			WorkingDir:  s.WorkingDir,
			Labels:      labels,
			StopTimeout: &stopTimeout,
		},
		host: &container.HostConfig{
			Binds:          binds,
			VolumesFrom:    s.VolumesFrom,
			Privileged:     s.Privileged,
			CapAdd:         s.CapAdd,
			CapDrop:        s.CapDrop,
			ReadonlyRootfs: s.ReadOnly,
			Tmpfs:          s.Tmpfs,
			DNS:            s.DNS,
			LogConfig:      container.LogConfig{Type: s.Logging.Driver, Config: s.Logging.Options},
			RestartPolicy:  container.RestartPolicy{Name: container.RestartPolicyDisabled},
			Resources:      limits,
		},
	}
	if len(s.Networks) > 0 {
		first := s.Networks[0]
		out.host.NetworkMode = container.NetworkMode(first)
		out.more = s.Networks[1:]
		if out.host.NetworkMode.IsUserDefined() {
			out.network = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{first: {}}}
		}
	}
	return out, nil
}

// argv is what the container runs, as far as the project file says it.
func argv(r component.StartRequest) []string {
	if r.Task {
		return r.Release.Spec.PreDeploy.Command
	}
	return r.Release.Spec.Command
}

func resources(s component.Spec) (container.Resources, error) {
	var out container.Resources
	if m := s.Resources.Memory; m != "" {
		b, err := units.RAMInBytes(m)
		if err != nil || b <= 0 {
			return out, fmt.Errorf("resources.memory: %q is not a size such as 512m", m)
		}
		out.Memory = b
	}
	if c := s.Resources.CPUs; c < 0 || math.IsNaN(c) || c > 1e6 {
		return out, fmt.Errorf("resources.cpus: %v is not a number of processors", c)
	}
	out.NanoCPUs = int64(math.Round(s.Resources.CPUs * 1e9))
	if p := s.Resources.Pids; p > 0 {
		out.PidsLimit = &p
	}
	for _, u := range s.Ulimits {
		out.Ulimits = append(out.Ulimits, &container.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	return out, nil
}

// environment is the component's variables with those of the request, each name once: which of
// two values a program sees is up to its C library. The last value of a name counts.
func environment(own []component.EnvVar, more []string) []string {
	at := map[string]int{}
	var out []string
	add := func(name, entry string) {
		if i, ok := at[name]; ok {
			out[i] = entry
			return
		}
		at[name] = len(out)
		out = append(out, entry)
	}
	for _, v := range own {
		add(v.Name, v.Name+"="+v.Value)
	}
	for _, entry := range more {
		name, _, _ := strings.Cut(entry, "=")
		add(name, entry)
	}
	return out
}

// seconds rounds up, so that a short time does not become none.
func seconds(d time.Duration) int {
	return int(math.Ceil(max(0, d.Seconds())))
}
