package version

import (
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRead(t *testing.T) {
	const commit = "3f2a9c1d7b0455667788990011223344556677aa"
	vcs := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{
			{Key: "vcs.modified", Value: modified}, // the order must not matter
			{Key: "vcs.revision", Value: commit},
			{Key: "CGO_ENABLED", Value: "0"},
		}
	}
	tests := []struct {
		name    string
		stamped string
		build   debug.BuildInfo
		want    Info
	}{
		{
			name: "nothing known",
			want: Info{Version: "devel"},
		},
		{
			name:  "go build in a checkout without tags",
			build: debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: vcs("true")},
			want:  Info{Version: "devel", Revision: "3f2a9c1d7b04+dirty"},
		},
		{
			name:  "go install of a release",
			build: debug.BuildInfo{Main: debug.Module{Version: "v1.4.0"}},
			want:  Info{Version: "v1.4.0"},
		},
		{
			name:    "the stamp wins over the module's version",
			stamped: "v1.4.0-3-g3f2a9c1",
			build:   debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: vcs("false")},
			want:    Info{Version: "v1.4.0-3-g3f2a9c1", Revision: "3f2a9c1d7b04"},
		},
		{
			name:  "a short revision is kept whole",
			build: debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "12"}}},
			want:  Info{Version: "devel", Revision: "12"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.Go = runtime.Version()
			tt.want.Platform = runtime.GOOS + "/" + runtime.GOARCH
			if diff := cmp.Diff(read(tt.stamped, &tt.build), tt.want); diff != "" {
				t.Fatalf("read (-got +want):\n%s", diff)
			}
		})
	}
}

func TestString(t *testing.T) {
	i := Info{Version: "v1.4.0", Revision: "3f2a9c1d7b04", Go: "go1.26.8", Platform: "linux/amd64"}
	if got, want := i.String(), "v1.4.0 (3f2a9c1d7b04, go1.26.8, linux/amd64)"; got != want {
		t.Errorf("String = %q, want %q", got, want)
	}
	i.Revision = ""
	if got, want := i.String(), "v1.4.0 (go1.26.8, linux/amd64)"; got != want {
		t.Errorf("String without a revision = %q, want %q", got, want)
	}
}

func TestGetSaysSomething(t *testing.T) {
	if got := Get(); got.Version == "" || got.Go != runtime.Version() {
		t.Errorf("Get = %+v", got)
	}
}
