package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTokenCommands(t *testing.T) {
	f := newFleet(t)
	o := f.gantryd("", "token", "create", "ci", "--role", "deployer", "--project", "shop,blog", "--expires", "720h")
	text := strings.TrimSpace(o.out)
	parts := strings.Split(text, "_")
	if o.code != exitOK || len(parts) != 3 || parts[0] != "gantryd" || len(parts[2]) != 64 || !strings.Contains(o.err, "not shown again") {
		t.Fatalf("create = %+v", o)
	}
	var list struct{ Items []tokenRow }
	o = f.gantryd("", "token", "list", "-o", "json")
	if err := json.Unmarshal([]byte(o.out), &list); err != nil || strings.Contains(o.out, parts[2]) {
		t.Fatalf("list = %+v: %v", o, err)
	}
	if i := list.Items[0]; len(list.Items) != 1 || i.ID != parts[1] || i.Name != "ci" || i.Role != "deployer" || len(i.Projects) != 2 || i.Expires.Sub(i.At).Hours() != 720 {
		t.Errorf("listed %+v", i)
	}
	if o := f.gantryd("", "token", "list"); !strings.Contains(o.out, "shop,blog") || !strings.Contains(o.out, "in ") {
		t.Errorf("list = %+v", o)
	}
	for _, args := range [][]string{
		{"create", "x"},
		{"create", "x", "--role", "emperor"},
		{"create", "x", "--role", "viewer", "--expires", "-1h"},
		{"create", "a\nb", "--role", "viewer"},
		{"create", "--role", "viewer"},
		{"create", "x", "--role", "viewer", "--project", ""},
		{"create", "x", "--role", "viewer", "--project", "shop,"},
	} {
		if o := f.gantryd("", append([]string{"token"}, args...)...); o.code != exitUsage {
			t.Errorf("token %v = %+v", args, o)
		}
	}
	if o := f.gantryd("", "token", "revoke", parts[1]); o.code != exitOK {
		t.Errorf("revoke = %+v", o)
	}
	if o := f.gantryd("", "token", "revoke", parts[1]); o.code != exitNotFound {
		t.Errorf("revoke again = %+v", o)
	}
}

func TestAPINeedsCredentials(t *testing.T) {
	f := newFleet(t)
	empty := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args []string
		code int
		says string
	}{
		{nil, exitRefused, "gantryd token create"},
		{[]string{"--username", "root"}, exitUsage, "go together"},
		{[]string{"--username", "root", "--password-file", "/nowhere"}, exitUsage, "no such file"},
		{[]string{"--username", "root", "--password-file", empty}, exitUsage, "holds no password"},
		{[]string{"--username", "root", "--password-file", empty, "--role", "x"}, exitUsage, "none of viewer"},
		{[]string{"--api-cert", "/nowhere"}, exitUsage, "go together"},
	}
	for _, tt := range tests {
		if o := f.gantryd("", append([]string{"api", "127.0.0.1:0"}, tt.args...)...); o.code != tt.code || !strings.Contains(o.err, tt.says) {
			t.Errorf("api %v = %+v, want %d and %q", tt.args, o, tt.code, tt.says)
		}
	}
}
