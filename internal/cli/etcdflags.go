package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// etcdFlags say where etcd is, in the words of etcdctl and of the original.
type etcdFlags struct {
	endpoints          []string
	host               string
	port               int
	cacert, cert, key  string
	user, password     string
	insecureSkipVerify bool
	commandTimeout     time.Duration
}

func (f *etcdFlags) add(cmd *cobra.Command) {
	fs := cmd.PersistentFlags()
	fs.StringSliceVar(&f.endpoints, "endpoints", nil, "etcd endpoints, host:port or URL (ETCDCTL_ENDPOINTS; default 127.0.0.1:2379)")
	fs.StringVar(&f.host, "etcd", "", "host of etcd, as in the original; -etcd HOST works too")
	fs.IntVar(&f.port, "etcdport", 0, "port of etcd, with --etcd; -etcdport PORT works too (default 2379)")
	fs.StringVar(&f.cacert, "cacert", "", "file with the certificates that sign etcd's (ETCDCTL_CACERT)")
	fs.StringVar(&f.cert, "cert", "", "file with the client certificate (ETCDCTL_CERT)")
	fs.StringVar(&f.key, "key", "", "file with the key of the client certificate (ETCDCTL_KEY)")
	fs.StringVar(&f.user, "user", "", "etcd user, NAME or NAME:PASSWORD (ETCDCTL_USER)")
	fs.StringVar(&f.password, "password", "", "password of the etcd user (ETCDCTL_PASSWORD, which other users of the machine cannot see)")
	fs.BoolVar(&f.insecureSkipVerify, "insecure-skip-tls-verify", false, "take any certificate of etcd (ETCDCTL_INSECURE_SKIP_TLS_VERIFY)")
	fs.DurationVar(&f.commandTimeout, "command-timeout", etcdstate.DefaultCommandTimeout, "longest wait for an answer of etcd")
}

// config joins flags and environment; flags win. named tells whether anybody said where etcd is.
func (f *etcdFlags) config(env Env, log *slog.Logger) (cfg etcdstate.Config, named bool, err error) {
	from := func(flag, name string) string {
		if flag != "" {
			return flag
		}
		return env.Getenv("ETCDCTL_" + name)
	}
	cfg = etcdstate.Config{
		CACert: from(f.cacert, "CACERT"), Cert: from(f.cert, "CERT"), Key: from(f.key, "KEY"),
		User: from(f.user, "USER"), Password: from(f.password, "PASSWORD"),
		InsecureSkipVerify: f.insecureSkipVerify, CommandTimeout: f.commandTimeout, Log: log,
	}
	if skip, err := strconv.ParseBool(env.Getenv("ETCDCTL_INSECURE_SKIP_TLS_VERIFY")); err == nil && skip {
		cfg.InsecureSkipVerify = true
	}
	if user, password, ok := strings.Cut(cfg.User, ":"); ok {
		cfg.User, cfg.Password = user, password
	}
	if (cfg.Cert == "") != (cfg.Key == "") {
		return cfg, false, fail(exitUsage, "--cert and --key go together")
	}
	cfg.Endpoints, err = f.where(env)
	return cfg, len(cfg.Endpoints) > 0, err
}

// refused is an error when nobody listens at any of the endpoints: a command then fails at once
// instead of waiting for an answer.
func refused(ctx context.Context, endpoints []string) error {
	if len(endpoints) == 0 {
		endpoints = []string{etcdstate.DefaultEndpoint}
	}
	for _, e := range endpoints {
		addr := strings.TrimPrefix(strings.TrimPrefix(e, "http://"), "https://")
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		cancel()
		if err == nil {
			return c.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil // perhaps later, or by other means: etcd's client knows
		}
	}
	return fail(exitUnreachable, "%w: nobody listens at %s", component.ErrUnreachable, strings.Join(endpoints, ", ")).
		withHint("start etcd, or say where it is with --endpoints")
}

// where are the endpoints that were named; nil when none was.
func (f *etcdFlags) where(env Env) ([]string, error) {
	switch {
	case f.host != "" && len(f.endpoints) > 0:
		return nil, fail(exitUsage, "--etcd and --endpoints say the same thing; give one of them")
	case f.host != "":
		if _, _, err := net.SplitHostPort(f.host); err == nil && f.port == 0 {
			return []string{f.host}, nil
		}
		port := f.port
		if port == 0 {
			port = 2379
		}
		return []string{net.JoinHostPort(strings.Trim(f.host, "[]"), strconv.Itoa(port))}, nil
	case f.port != 0:
		return []string{fmt.Sprintf("127.0.0.1:%d", f.port)}, nil
	case len(f.endpoints) > 0:
		return f.endpoints, nil
	}
	if s := env.Getenv("ETCDCTL_ENDPOINTS"); s != "" {
		return strings.Split(s, ","), nil
	}
	return nil, nil
}
