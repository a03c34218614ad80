package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	dockercred "github.com/docker/cli/cli/config/credentials"
	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
	"github.com/docker/docker/api/types/registry"
)

// The key of Docker Hub in a docker config is older than its name in references.
const (
	hubDomain = "docker.io"
	hubKey    = "https://index.docker.io/v1/"
)

// registryAuth is the header with the credentials for a registry, "" when there are none. The docker
// config is read every time: who logs in or renews a token expects that it counts from now on.
func (e *Engine) registryAuth(ctx context.Context, domain string) (string, error) {
	key := domain
	if domain == hubDomain {
		key = hubKey
	}
	file, err := config.Load(configDir(e.getenv))
	if err != nil {
		return "", fmt.Errorf("read docker config: %w", err)
	}
	auth, err := e.credentials(ctx, file, key)
	if err != nil {
		return "", fmt.Errorf("get credentials for registry %q: %w", domain, err)
	}
	if auth == (registry.AuthConfig{}) {
		return "", nil
	}
	auth.ServerAddress = key
	return registry.EncodeAuthConfig(auth)
}

// credentials asks the helper that the config names for this registry or for all, or else looks into
// the config itself.
func (e *Engine) credentials(ctx context.Context, file *configfile.ConfigFile, key string) (registry.AuthConfig, error) {
	helper := file.CredentialHelpers[key]
	if helper == "" && key == hubKey {
		helper = file.CredentialHelpers[hubDomain]
	}
	if helper == "" {
		helper = file.CredentialsStore
	}
	if helper != "" {
		return e.askHelper(ctx, helper, key)
	}
	got, err := dockercred.NewFileStore(file).Get(key)
	if err != nil {
		return registry.AuthConfig{}, err
	}
	return registry.AuthConfig{
		Username: got.Username, Password: got.Password, IdentityToken: got.IdentityToken, RegistryToken: got.RegistryToken,
	}, nil
}

// askHelper runs docker-credential-<name>, for a limited time.
func (e *Engine) askHelper(ctx context.Context, name, key string) (registry.AuthConfig, error) {
	ctx, cancel := context.WithTimeout(ctx, e.limits.helper)
	defer cancel()
	got, err := client.Get(func(args ...string) client.Program {
		return newHelper(ctx, "docker-credential-"+name, args)
	}, key)
	switch {
	case credentials.IsErrCredentialsNotFound(err):
		return registry.AuthConfig{}, nil
	case ctx.Err() != nil:
		return registry.AuthConfig{}, fmt.Errorf("run docker-credential-%s: not done within %s", name, e.limits.helper)
	case err != nil:
		return registry.AuthConfig{}, fmt.Errorf("run docker-credential-%s: %w", name, err)
	}
	const token = "<token>" // the helper protocol's user name for a token
	if got.Username == token {
		return registry.AuthConfig{IdentityToken: got.Secret}, nil
	}
	return registry.AuthConfig{Username: got.Username, Password: got.Secret}, nil
}

// A helper is a client.Program that ends with its context. The client's own one never does.
type helper struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
}

func newHelper(ctx context.Context, name string, args []string) *helper {
	h := &helper{cmd: exec.CommandContext(ctx, name, args...)}
	h.cmd.Stderr = &h.stderr
	h.cmd.WaitDelay = time.Second // its children may keep the pipe open
	return h
}

// Input is what the helper reads.
func (h *helper) Input(in io.Reader) { h.cmd.Stdin = in }

// Output runs the helper.
func (h *helper) Output() ([]byte, error) {
	out, err := h.cmd.Output()
	if s := strings.TrimSpace(h.stderr.String()); err != nil && s != "" {
		err = fmt.Errorf("%w: %s", err, cleanLine(s))
	}
	return out, err
}
