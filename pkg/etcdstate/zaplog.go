package etcdstate

import (
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// bridge is a zap logger that writes warnings and errors to log, until closing: then etcd complains
// about each listener it closes. Where etcd would end the process or panic, failed is called and
// only the goroutine ends.
func bridge(log *slog.Logger, failed func(), closing *atomic.Bool) *zap.Logger {
	hook := giveUp{failed}
	return zap.New(slogCore{log: log, closing: closing}, zap.WithFatalHook(hook), zap.WithPanicHook(hook))
}

type giveUp struct{ failed func() }

// OnWrite implements zapcore.CheckWriteHook.
func (g giveUp) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	g.failed()
	zapcore.WriteThenGoexit.OnWrite(e, fields)
}

// slogCore is a zapcore.Core on slog. etcd's text is an attribute: the message stays constant.
type slogCore struct {
	log     *slog.Logger
	closing *atomic.Bool
	fields  []zapcore.Field
}

func (c slogCore) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

func (c slogCore) With(fields []zapcore.Field) zapcore.Core {
	return slogCore{log: c.log, closing: c.closing, fields: append(slices.Clip(c.fields), fields...)}
}

func (c slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range c.fields {
		f.AddTo(enc)
	}
	for _, f := range fields {
		f.AddTo(enc)
	}
	attrs := []any{"text", e.Message, "detail", enc.Fields}
	switch {
	case c.closing.Load() && e.Level <= zapcore.ErrorLevel, harmless(e.Message):
		c.log.Debug("etcd reports", attrs...)
	case e.Level >= zapcore.ErrorLevel:
		c.log.Error("etcd reports an error", attrs...)
	default:
		c.log.Warn("etcd reports a warning", attrs...)
	}
	return nil
}

// harmless says whether etcd warns of something that we mean to be so.
func harmless(text string) bool {
	return strings.HasPrefix(text, "Running http and grpc server on single port") ||
		strings.HasPrefix(text, "simple token is not cryptographically signed")
}

func (c slogCore) Sync() error { return nil }
