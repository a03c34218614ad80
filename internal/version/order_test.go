package version

import "testing"

func TestOlder(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{"v1.4.0 (go1.26.8, linux/amd64)", "v1.4.1 (go1.26.8, linux/amd64)", true},
		{"v1.4.1", "v1.4.0", false},
		{"v1.4.0", "v1.4.0", false},
		{"v1.9.0", "v1.10.0", true},
		{"v1.4.0", "v1.4.0-3-g3f2a9c1 (3f2a9c1d7b04, go1.26.8, linux/amd64)", true},
		{"v1.4.0-3-g3f2a9c1", "v1.4.0", false},
		{"v1.4.0-dirty", "v1.4.0-1-g3f2a9c1-dirty", true},
		{"devel (go1.26.8, linux/amd64)", "v1.0.0", false},
		{"v1.0.0", "devel", false},
		{"v2.0.0", "v10.0.0", true},
	}
	for _, tt := range tests {
		if got := Older(tt.a, tt.b); got != tt.want {
			t.Errorf("Older(%q, %q) = %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}
