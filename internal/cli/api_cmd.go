package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/internal/apiserver"
	"github.com/gantryd/gantryd/internal/version"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/engine"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// apiFlags say how the deploy API is served.
type apiFlags struct {
	addr, cert, key              string
	username, passwordFile, role string
	accessLog                    string
}

func (f *apiFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.cert, "api-cert", "", "file with the certificate of the API; read again when it changes (default: no TLS)")
	fs.StringVar(&f.key, "api-key", "", "file with the key of that certificate")
	fs.StringVar(&f.username, "username", "", "user of the API who comes with a password, besides the tokens")
	fs.StringVar(&f.passwordFile, "password-file", "", "file with the password of --username")
	fs.StringVar(&f.role, "role", string(apiserver.Deployer), "role of --username, for all projects: viewer, deployer or admin")
	fs.StringVar(&f.accessLog, "api-access-log", "", "file that gets a line of JSON for each request of the API, - for standard output (default none)")
}

// server is the API that the flags ask for, which does not listen yet. Close what it logs to.
func (f *apiFlags) server(env Env, patient bool, log *slog.Logger) (*apiserver.Server, io.Closer, error) {
	o := apiserver.Options{Addr: f.addr, Cert: f.cert, Key: f.key, Patient: patient, Version: version.Get().String(), Log: log}
	var err error
	if o.Basic, err = f.basic(); err != nil {
		return nil, nil, err
	}
	requests, err := openAccessLog(env, f.accessLog, log)
	if err != nil {
		return nil, nil, err
	}
	closer := io.Closer(io.NopCloser(nil))
	if requests != nil {
		o.AccessLog, closer = brief{requests}, requests
	}
	s, err := apiserver.New(o)
	if err != nil {
		_ = closer.Close() // nothing was written
		return nil, nil, fail(exitUsage, "%w", err)
	}
	return s, closer, nil
}

// maxPassword bounds the file of a password.
const maxPassword = 4096

// basic is the user with a password; nil when there is none.
func (f *apiFlags) basic() (*apiserver.Basic, error) {
	if f.username == "" && f.passwordFile == "" {
		return nil, nil
	}
	if f.username == "" || f.passwordFile == "" {
		return nil, fail(exitUsage, "--username and --password-file go together")
	}
	role, err := apiserver.ParseRole(f.role)
	if err != nil {
		return nil, fail(exitUsage, "--role: %w", err)
	}
	file, err := os.Open(f.passwordFile)
	if err != nil {
		return nil, fail(exitUsage, "--password-file: %w", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxPassword))
	if err != nil {
		return nil, fail(exitUsage, "--password-file: %w", err)
	}
	if b = bytes.TrimRight(b, "\r\n"); len(b) == 0 {
		return nil, fail(exitUsage, "--password-file %s: it holds no password", f.passwordFile)
	}
	return &apiserver.Basic{Username: f.username, Password: string(b), Role: role}, nil
}

// A brief is a log whose reader may keep a request waiting for a moment only.
type brief struct{ accessLog }

// Write implements io.Writer.
func (b brief) Write(p []byte) (int, error) {
	_ = b.SetWriteDeadline(time.Now().Add(time.Second)) // a file needs none
	return b.accessLog.Write(p)
}

// imagesOf are resolved by an engine.
func imagesOf(e *engine.Engine) apiserver.Images {
	return func(ctx context.Context, ref, when string) (component.Image, string, error) {
		policy, err := pullPolicy(when)
		if err != nil {
			return component.Image{}, "", err
		}
		return e.Resolve(ctx, ref, policy, nil)
	}
}

func (g *gantryd) apiCmd() *cobra.Command {
	var f apiFlags
	cmd := &cobra.Command{
		Use: "api ADDR", Short: "Serve the deploy API, without a daemon",
		Long: `Serves the deploy API of all projects over HTTP until SIGTERM or SIGINT; 'gantryd run --api'
serves the same beside a daemon. Every request needs a credential: a token of 'gantryd token
create', or the name and password of --username. Without any the API does not start. Images
are resolved by this machine's Docker Engine, as 'gantryd update' does it.`,
		Example: "  gantryd token create ci --role deployer --project shop\n  gantryd api 0.0.0.0:3000 --api-cert api.pem --api-key api.key",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			f.addr = a[0]
			return g.with(cmd.Context(), func(c *etcdstate.Client) error { return g.api(cmd.Context(), c, f) })
		},
	}
	f.add(cmd)
	return cmd
}

func (g *gantryd) api(ctx context.Context, c *etcdstate.Client, f apiFlags) error {
	log := logger(g.env, slog.LevelInfo)
	s, requests, err := f.server(g.env, false, log)
	if err != nil {
		return err
	}
	defer requests.Close()
	e, err := engine.New(engine.Options{Project: "api", Host: person(g.env.Getenv), Log: log, Getenv: g.env.Getenv})
	if err != nil {
		return fail(exitUnreachable, "%w", err)
	}
	defer e.Close()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := s.Run(ctx, c, imagesOf(e)); err != nil {
		if errors.Is(err, apiserver.ErrNoCredentials) {
			return fail(exitRefused, "%w", err).withHint("make a token with 'gantryd token create NAME --role deployer', or give --username and --password-file")
		}
		return err
	}
	fmt.Fprintln(g.env.Err, "API stopped")
	return nil
}
