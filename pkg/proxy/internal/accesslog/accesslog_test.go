package accesslog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func example() *Entry {
	return &Entry{
		Time: time.Date(2026, 5, 1, 12, 0, 0, 123456000, time.UTC), Listener: "web:80", Client: "192.0.2.1:4711",
		Method: "GET", Host: "shop.example", Path: "/a?token=secret", Protocol: "HTTP/1.1", Status: 200, BytesIn: 1, BytesOut: 2345,
		Duration: 1234567 * time.Nanosecond, Held: time.Second, Target: "172.17.0.2:80", TargetID: "4ae76210a4fe", Attempts: 2,
		UserAgent: "curl/8", Referrer: "https://shop.example/b?token=secret#x",
	}
}

func TestLine(t *testing.T) {
	tests := []struct {
		name   string
		change func(e *Entry)
		want   string
	}{
		{"everything", func(*Entry) {}, `{"time":"2026-05-01T12:00:00.123456Z","listener":"web:80","client":"192.0.2.1:4711","method":"GET",` +
			`"host":"shop.example","path":"/a","protocol":"HTTP/1.1","status":200,"bytes_in":1,"bytes_out":2345,"duration_ms":1.234,` +
			`"held_ms":1000.000,"target":"172.17.0.2:80","target_id":"4ae76210a4fe","attempts":2,"user_agent":"curl/8","referrer":"https://shop.example/b"}`},
		{
			"what is unknown is left out", func(e *Entry) { *e = Entry{Time: e.Time, Listener: "web:80", Method: "GET", Path: "/", Status: 503} },
			`{"time":"2026-05-01T12:00:00.123456Z","listener":"web:80","client":"","method":"GET","host":"","path":"/","protocol":"",` +
				`"status":503,"bytes_in":0,"bytes_out":0,"duration_ms":0.000,"attempts":0}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := example()
			tt.change(e)
			if diff := cmp.Diff(tt.want+"\n", string(e.append(nil))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestValuesAreEscaped(t *testing.T) {
	tests := []struct{ name, value, want string }{
		{"plain", "abc äöü 日", "abc äöü 日"},
		{"quotes", `a"b\c`, `a\"b\\c`},
		{"lines", "a\r\nb\x00\x1b[31m\x7f", `a\u000d\u000ab\u0000\u001b[31m\u007f`},
		{"C1", "a\u0085b", `a\u0085b`},
		{"direction of writing", "a\u202eb\u2066", `a\u202eb\u2066`},
		{"beyond 16 bits", "\U000e0001\U0001f600", `\udb40\udc01` + "\U0001f600"},
		{"not text", "a\xffb", `a\ufffdb`},
		{"long", strings.Repeat("a", 20), strings.Repeat("a", 16) + "…"},
		{"long, cut within a character", strings.Repeat("a", 15) + "äb", strings.Repeat("a", 15) + "…"},
		{"long and not text", strings.Repeat("\xff", 20), strings.Repeat(`\ufffd`, 16) + "…"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := `,"k":"` + tt.want + `"`
			if got := string(text(nil, "k", tt.value, 16)); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// FuzzLine: whatever a client sends, a line is JSON, one line, bounded, and shows nothing but text.
func FuzzLine(f *testing.F) {
	f.Add("GET", "/a b", "x\r\ny", "\xff\xfe", "\u202e")
	f.Add("", strings.Repeat("\x00", 5000), strings.Repeat("\U000e0001", 300), strings.Repeat("é", 999), `\"`)
	f.Fuzz(func(t *testing.T, method, path, host, agent, referrer string) {
		e := Entry{Method: method, Path: path, Host: host, UserAgent: agent, Referrer: referrer, Listener: host, Client: host, Target: host, TargetID: host, Protocol: host}
		line := e.append(nil)
		if len(line) > maxLine {
			t.Errorf("%d bytes, at most %d", len(line), maxLine)
		}
		var got map[string]any
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if !utf8.Valid(line) {
			t.Errorf("not UTF-8: %q", line)
		}
		for _, r := range strings.TrimSuffix(string(line), "\n") {
			if !unicode.IsPrint(r) {
				t.Errorf("%q is in the line %q", r, line)
			}
		}
		if n := len(method); n <= maxMethod && utf8.ValidString(method) && got["method"] != method {
			t.Errorf("method %q came out as %q", method, got["method"])
		}
	})
}

func TestEntriesAreWrittenInOrder(t *testing.T) {
	var out bytes.Buffer
	l := New(&out)
	var wg sync.WaitGroup
	const each = 200
	for i := range 4 {
		wg.Go(func() {
			for j := range each {
				l.Add(&Entry{Listener: string(rune('a' + i)), Status: j})
			}
		})
	}
	wg.Wait()
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.Add(&Entry{}) // too late, and harmless
	next := map[string]int{}
	for line := range strings.Lines(out.String()) {
		var e struct {
			Listener string
			Status   int
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Status != next[e.Listener] {
			t.Fatalf("entry %d of %s where %d was expected", e.Status, e.Listener, next[e.Listener])
		}
		next[e.Listener]++
	}
	if want := map[string]int{"a": each, "b": each, "c": each, "d": each}; !cmp.Equal(next, want) {
		t.Errorf("entries %v, want %v", next, want)
	}
}

// stuck is a writer that stands still until it is told to go on.
type stuck struct {
	goOn chan struct{}
	out  bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.goOn
	return s.out.Write(p)
}

func TestWriterThatStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &stuck{goOn: make(chan struct{})}
		l := New(w)
		const n = 20_000
		start := time.Now()
		for range n {
			l.Add(example())
			if time.Since(start) > 0 {
				t.Fatal("an entry waited")
			}
		}
		synctest.Wait()
		time.Sleep(time.Second)
		for range n {
			l.Add(example())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := l.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second+time.Minute {
			t.Errorf("close: %v after %v, want the deadline", err, time.Since(start))
		}
		close(w.goOn)
		<-l.ended
		var lines, dropped int
		for line := range strings.Lines(w.out.String()) {
			var e struct{ Dropped int }
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			if dropped += e.Dropped; e.Dropped == 0 {
				lines++
			}
		}
		if lines+dropped != 2*n || lines == 0 || dropped == 0 {
			t.Errorf("%d lines and %d dropped, want %d together", lines, dropped, 2*n)
		}
	})
}

// TestPipeNobodyReads: as above, with a real pipe, whose write can be ended.
func TestPipeNobodyReads(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	l := New(w)
	for range 20_000 {
		l.Add(example()) // one that waits for the pipe waits for ever
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := l.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("close: %v, want the deadline", err)
	}
	<-l.ended
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil || !json.Valid([]byte(line)) {
		t.Errorf("first line %q, %v", line, err)
	}
}

// failing fails n times.
type failing struct {
	n   int
	out bytes.Buffer
}

func (f *failing) Write(p []byte) (int, error) {
	if f.n--; f.n >= 0 {
		return 0, io.ErrShortWrite
	}
	return f.out.Write(p)
}

func TestWriterThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &failing{n: 2}
		l := New(w)
		for range 3 {
			l.Add(&Entry{})
			l.Add(&Entry{})
			time.Sleep(time.Second)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if got := w.out.String(); strings.Count(got, `"status":0`) != 2 || !strings.HasSuffix(got, `"dropped":4}`+"\n") {
			t.Errorf("written: %s", got)
		}
		failed := New(&failing{n: 100})
		failed.Add(&Entry{})
		if err := failed.Close(t.Context()); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("close: %v, want what the write said", err)
		}
	})
}

func TestAddAllocatesNothing(t *testing.T) {
	l := New(io.Discard)
	defer l.Close(t.Context())
	e := example()
	l.Add(e)
	if n := testing.AllocsPerRun(1000, func() { l.Add(e) }); n > 0.1 {
		t.Errorf("%v allocations an entry", n)
	}
}

func BenchmarkAdd(b *testing.B) {
	l := New(io.Discard)
	defer l.Close(b.Context())
	e := example()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.Add(e)
		}
	})
}
