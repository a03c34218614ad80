package proxy

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestListenerThatGivesItsAddressesUp takes no new clients, serves those who came before, and lets those go who have no
// request.
func TestListenerThatGivesItsAddressesUp(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	l := alone(t, web1(site(t, "A", nil)))
	apply(t, p, l)
	addr := addrOf(t, p)
	fresh, idle := connect(t, addr), connect(t, addr)
	r := bufio.NewReader(idle)
	get := func(w io.Writer, r *bufio.Reader) (int, string, bool) {
		_, _ = io.WriteString(w, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode, res.Header.Get("Served-By"), res.Close
	}
	if code, by, last := get(idle, r); code != http.StatusOK || by != "A" || last { // fresh was accepted before it
		t.Fatalf("answer %d of %q, last %t", code, by, last)
	}
	l.Addrs = nil
	apply(t, p, l)
	if got := outcomeAt(addr); !strings.Contains(got, "refused") {
		t.Errorf("a new client saw %q", got)
	}
	if code, by, last := get(fresh, bufio.NewReader(fresh)); code != http.StatusOK || by != "A" || !last {
		t.Errorf("who had connected before got %d of %q, last %t", code, by, last)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("an idle client saw %v, want the end", err)
	}
}
