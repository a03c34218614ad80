package packaging

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// exposure is what `systemd-analyze security` may say at most, in tenths. Systemd 252 says 22; a
// unit for root without any hardening has 96. What is left is the network, root's files and Docker.
// Other versions count a little differently.
const exposure = "25"

// oldest is the first version of systemd that judges units without running them.
const oldest = 250

// unit is a file of ours and the name it is installed under.
type unit struct{ file, installed string }

var units = []unit{
	{"gantryd@.service", "gantryd@shop.service"},
	{"gantry-agent.service", "gantry-agent.service"},
}

func (u unit) read(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("systemd", u.file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// settings are the lines of the unit that set something.
func settings(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

// install writes the unit as if gantryd were installed and returns its path. It must run a file
// that exists, or systemd-analyze would complain of that.
func (u unit) install(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	stub := filepath.Join(dir, "stub")
	if err := os.WriteFile(stub, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, binary := range []string{"/usr/bin/gantryd ", "/usr/bin/gantry "} {
		text = strings.ReplaceAll(text, "="+binary, "="+stub+" ")
	}
	path := filepath.Join(dir, u.installed)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// analyze runs systemd-analyze and returns all it says.
func analyze(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("this machine has no systemd-analyze (Debian: apt-get install systemd)")
	}
	if v := version(t, path); v < oldest {
		t.Skipf("systemd %d is too old to judge units that it does not run; %d is needed", v, oldest)
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=cat", "LC_ALL=C.UTF-8")
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

// version is the number in "systemd 252 (252.38-1~deb12u1)".
func version(t *testing.T, path string) int {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), path, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	var v int
	if _, err := fmt.Sscanf(string(out), "systemd %d", &v); err != nil {
		t.Fatalf("read systemd's version from %q: %v", out, err)
	}
	return v
}

// complaints are the lines of `systemd-analyze verify` about this unit; it looks at others too.
func complaints(t *testing.T, u unit, text string) []string {
	t.Helper()
	out, err := analyze(t, "verify", "--man=no", "--recursive-errors=no", u.install(t, text))
	var lines []string
	for line := range strings.Lines(out) {
		if strings.Contains(line, u.installed) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	if err != nil && len(lines) == 0 {
		t.Fatalf("systemd-analyze verify: %v\n%s", err, out)
	}
	return lines
}

func TestUnitsAreValid(t *testing.T) {
	for _, u := range units {
		t.Run(u.file, func(t *testing.T) {
			if got := complaints(t, u, u.read(t)); len(got) > 0 {
				t.Errorf("systemd-analyze verify:\n%s", strings.Join(got, "\n"))
			}
		})
	}
}

// TestInvalidUnitsAreFound shows that the check above can fail.
func TestInvalidUnitsAreFound(t *testing.T) {
	breakages := map[string][2]string{
		"an unknown setting": {"KillMode=mixed", "KilMode=mixed"},
		"a nonsense value":   {"WatchdogSec=30s", "WatchdogSec=soon"},
		"a missing program":  {"ExecStart=/usr/bin/", "ExecStart=/nowhere/"},
	}
	for name, b := range breakages {
		for _, u := range units {
			t.Run(name+" in "+u.file, func(t *testing.T) {
				text := u.read(t)
				broken := strings.Replace(text, b[0], b[1], 1)
				if broken == text {
					t.Fatalf("%s has no %q", u.file, b[0])
				}
				if got := complaints(t, u, broken); len(got) == 0 {
					t.Errorf("systemd-analyze verify accepts %q", b[1])
				}
			})
		}
	}
}

func TestServicesAreHardened(t *testing.T) {
	for _, u := range units {
		t.Run(u.file, func(t *testing.T) {
			path := u.install(t, u.read(t))
			if out, err := analyze(t, "security", "--offline=true", "--no-pager", "--threshold="+exposure, path); err != nil {
				t.Errorf("systemd-analyze security: %v\n%s", err, out)
			}
			if _, err := analyze(t, "security", "--offline=true", "--no-pager", "--threshold=1", path); err == nil {
				t.Error("systemd-analyze security accepts any threshold")
			}
		})
	}
}

// TestPromisesHangOnTheseLines keeps what no analysis would miss.
func TestPromisesHangOnTheseLines(t *testing.T) {
	needed := map[string]string{
		"Type=notify":                   "what is ordered after gantryd starts when it serves",
		"NotifyAccess=main":             "a credential helper must not speak for gantryd",
		"WatchdogSec=30s":               "a stuck loop is restarted",
		"Restart=always":                "a daemon that died comes back",
		"StartLimitIntervalSec=0":       "a daemon that died often comes back too",
		"ExecReload=/usr/bin/":          "systemctl reload upgrades, and says how that went",
		"FileDescriptorStoreMax=4096":   "clients are not refused while a daemon that was killed is started again",
		"KillMode=mixed":                "SIGTERM goes to gantryd only",
		"TimeoutStopSec=30s":            "a restart is quick",
		"TimeoutStartSec=180s":          "a reload may take as long as gantryd upgrade waits, and is not ended before",
		"UMask=0022":                    "containers may enter the directories made for bindings",
		"PrivateTmp=no":                 "Docker sees the links made for bindings",
		"NoNewPrivileges=yes":           "root's powers do not come back",
		"SystemCallErrorNumber=EPERM":   "a filtered call fails, it does not kill the proxy",
		"After=network-online.target d": "addresses exist when they are listened on; a prefix, etcd may follow",
	}
	for _, u := range units {
		t.Run(u.file, func(t *testing.T) {
			lines := settings(u.read(t))
			for line, why := range needed {
				if !slices.ContainsFunc(lines, func(s string) bool { return strings.HasPrefix(s, line) }) {
					t.Errorf("%s is missing: %s", line, why)
				}
			}
			for _, s := range lines {
				key, _, _ := strings.Cut(s, "=")
				switch key {
				case "Requires", "BindsTo", "Requisite", "PartOf", "BindTo":
					t.Errorf("%s: a restart of something else would take the proxy down", s)
				case "ProcSubset":
					t.Errorf("%s: the kernel's limits could not be read", s)
				case "RestartPreventExitStatus":
					t.Errorf("%s: a crash of Go has exit code 2", s)
				}
			}
		})
	}
}

// TestUnitsDifferOnlyWhereTheyMust: both services do the same work with the same rights.
func TestUnitsDifferOnlyWhereTheyMust(t *testing.T) {
	own := []string{
		"Description", "After", "EnvironmentFile", "ExecStart", "ExecReload", "StateDirectory", "RuntimeDirectory", "RuntimeDirectoryMode",
	}
	var common [][]string
	for _, u := range units {
		common = append(common, slices.DeleteFunc(settings(u.read(t)), func(s string) bool {
			key, _, _ := strings.Cut(s, "=")
			return slices.Contains(own, key)
		}))
	}
	if diff := cmp.Diff(common[0], common[1]); diff != "" {
		t.Errorf("settings (-%s +%s):\n%s", units[0].file, units[1].file, diff)
	}
}

func TestDataAreWhereTheStateDirectoryIs(t *testing.T) {
	lines := settings(units[0].read(t))
	for _, want := range []string{
		"StateDirectory=gantryd/%i",
		"ExecStart=/usr/bin/gantryd run %i --data-dir /var/lib/gantryd/%i $GANTRYD_ARGS",
		"ExecReload=/usr/bin/gantryd upgrade %i --data-dir /var/lib/gantryd/%i",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("%q is missing", want)
		}
	}
}
