package component

import (
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLinkVariables(t *testing.T) {
	tests := []struct {
		name  string
		alias string
		link  LinkDefinition
		want  []EnvVar
	}{
		{
			"as the original has them", "serveralias",
			LinkDefinition{Name: "server", Port: 8888},
			[]EnvVar{
				{"SERVERALIAS_CLINK", "tcp://172.17.42.1:53852"},
				{"SERVERALIAS_CLINK_8888_TCP", "tcp://172.17.42.1:53852"},
				{"SERVERALIAS_CLINK_8888_TCP_PROTO", "tcp"},
				{"SERVERALIAS_CLINK_8888_TCP_ADDR", "172.17.42.1"},
				{"SERVERALIAS_CLINK_8888_TCP_PORT", "53852"},
			},
		},
		{
			"kind of the link is in the name and in the address", "Api",
			LinkDefinition{Name: "api", Port: 80, Kind: KindHTTP},
			[]EnvVar{
				{"API_CLINK", "http://172.17.42.1:53852"},
				{"API_CLINK_80_HTTP", "http://172.17.42.1:53852"},
				{"API_CLINK_80_HTTP_PROTO", "http"},
				{"API_CLINK_80_HTTP_ADDR", "172.17.42.1"},
				{"API_CLINK_80_HTTP_PORT", "53852"},
			},
		},
		{
			"what a shell does not take becomes an underscore", "0my-db.x",
			LinkDefinition{Name: "db", Port: 5432, Kind: "TCP"},
			[]EnvVar{
				{"_MY_DB_X_CLINK", "tcp://172.17.42.1:53852"},
				{"_MY_DB_X_CLINK_5432_TCP", "tcp://172.17.42.1:53852"},
				{"_MY_DB_X_CLINK_5432_TCP_PROTO", "tcp"},
				{"_MY_DB_X_CLINK_5432_TCP_ADDR", "172.17.42.1"},
				{"_MY_DB_X_CLINK_5432_TCP_PORT", "53852"},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := LinkVariables(tt.alias, tt.link, "172.17.42.1", 53852)
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("LinkVariables(%q) (-got +want):\n%s", tt.alias, diff)
			}
		})
	}
}

func FuzzLinkVariables(f *testing.F) {
	f.Add("serveralias", uint16(8888), false)
	f.Add("", uint16(0), true)
	f.Add("7-é ſ\xff", uint16(65535), false)
	name := regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)
	f.Fuzz(func(t *testing.T, alias string, port uint16, http bool) {
		link := LinkDefinition{Name: "l", Port: int(port)}
		if http {
			link.Kind = KindHTTP
		}
		got := LinkVariables(alias, link, "172.17.42.1", 53852)
		seen := map[string]bool{}
		for _, v := range got {
			if !name.MatchString(v.Name) {
				t.Errorf("alias %q: %q is no name of a variable", alias, v.Name)
			}
			if seen[v.Name] {
				t.Errorf("alias %q: %q is set twice", alias, v.Name)
			}
			seen[v.Name] = true
		}
		if diff := cmp.Diff(got, LinkVariables(alias, link, "172.17.42.1", 53852)); diff != "" {
			t.Errorf("alias %q: not the same the second time:\n%s", alias, diff)
		}
	})
}
