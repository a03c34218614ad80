package localstate

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
)

// FuzzDecodeFile: whatever a disk gives back, a file is read as what was written, or refused.
func FuzzDecodeFile(f *testing.F) {
	whole, err := encodeFile(kindComponent, []byte(`{"name":"web","record":{"generation":7}}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte(`{"kind":"gantryd-component","format":2,"sha256":"","data":{}}`))
	f.Add([]byte(`{"data":null}`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		data, err := decodeFile(kindComponent, content)
		if err != nil {
			return
		}
		again, err := encodeFile(kindComponent, data)
		if err != nil {
			t.Fatalf("encode of what was decoded = %v", err)
		}
		back, err := decodeFile(kindComponent, again)
		if err != nil || !bytes.Equal(back, data) {
			t.Fatalf("decoded %s, then %s, %v", data, back, err)
		}
	})
}

// FuzzRecord: any data with a good checksum is taken or refused, and what is saved over it is what
// is read afterwards.
func FuzzRecord(f *testing.F) {
	full, err := json.Marshal(componentFile{Name: "web", Record: fullRecord(1)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	f.Add([]byte(`{"name":"web","x":[1],"record":{"primary":"a","PRIMARY":"b","containers":{"c1":{"stage":"serving","z":{}}}}}`))
	f.Add([]byte(`{"name":"web","record":{"containers":{"C1":null,"c1":{"Stage":"draining"}}}}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"record":{},"record":{"failure":{"log":[]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		content, err := encodeFile(kindComponent, data)
		if err != nil {
			return
		}
		d := newSimDisk()
		d.names["dir/components/web.json"] = &inode{data: content, synced: len(content)}
		m, err := openMemory("dir", d, testLog(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := m.Load(); err != nil && !errors.Is(err, ErrNewer) {
			t.Fatalf("Load = %v", err)
		}
		want := fullRecord(2)
		want.Primary = ""
		if err := m.Save("web", want); err != nil {
			t.Fatalf("Save = %v", err)
		}
		again, err := openMemory("dir", d, testLog(t))
		if err != nil {
			t.Fatal(err)
		}
		r, complete, err := again.Load()
		if err != nil || !complete || !cmp.Equal(r.Components, map[string]component.Record{"web": want}) {
			t.Fatalf("Load = %v, %v: %s", complete, err, cmp.Diff(want, r.Components["web"]))
		}
	})
}

// FuzzStoreFile: a store opens whatever the file says, and gives out greater generations.
func FuzzStoreFile(f *testing.F) {
	f.Add([]byte(`{"id":"x","revision":5,"used":5,"reserved":1005,"components":{"web":{"generation":5,"desired":{"status":"ready"}}}}`))
	f.Add([]byte(`{"id":"x","revision":5,"used":5,"reserved":9223372036854775807}`))
	f.Add([]byte(`{"id":"x","components":null,"adoption":3}`))
	f.Add([]byte(`{"id":"x","components":{"web":{"desired":[],"rollout":"","config":null}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		content, err := encodeFile(kindStore, data)
		if err != nil {
			return
		}
		d := newSimDisk()
		d.names["dir/"+storeName] = &inode{data: content, synced: len(content)}
		s, err := openStore("dir", Options{Host: "h1"}, d)
		if err != nil {
			t.Fatalf("openStore = %v", err)
		}
		before := s.Cluster()
		for _, n := range append(s.Names(), "web") {
			_ = s.View(n)
		}
		g, err := s.SetDesired(t.Context(), "web", component.Desired{Status: component.StatusReady, ImageID: "i"})
		if err != nil || g <= before.Revision || s.Cluster().Revision != g {
			t.Fatalf("SetDesired = %d, %v; revision was %d, is %d", g, err, before.Revision, s.Cluster().Revision)
		}
		again, err := openStore("dir", Options{Host: "h1"}, d)
		if err != nil || again.Cluster().ID != before.ID || again.Cluster().Revision != g {
			t.Fatalf("after a restart: %+v, %v; want ID %q, revision %d", again.Cluster(), err, before.ID, g)
		}
	})
}

func FuzzFileStem(f *testing.F) {
	f.Add("web", "Web")
	f.Add("..", "%2E.")
	f.Add("a/b", "a%2Fb")
	f.Add("", "%-e3b0c44298fc1c149afbf4c8996fb924")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := fileStem(a), fileStem(b)
		if (a == b) != (x == y) {
			t.Errorf("fileStem(%q) = %q, fileStem(%q) = %q", a, x, b, y)
		}
		for _, s := range []string{x, y} {
			if s == "" || s[0] == '.' || len(s) > maxStem+40 || bytes.ContainsAny([]byte(s), "/\\\x00") {
				t.Errorf("%q is no stem", s)
			}
		}
	})
}
