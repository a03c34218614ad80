package config_test

import (
	"fmt"

	"github.com/gantryd/gantryd/pkg/config"
)

func ExampleParse() {
	p, err := config.Parse("gantryd.yaml", []byte(`
components:
  - name: web
    repo: my/web
    ports: [{external: 80, container: 8000}]
`))
	fmt.Println(p.Components[0].Ref(), p.Components[0].Ports[0].External, err)
	// Output: my/web:latest 80 <nil>
}

// Every mistake is told at once, with its place.
func ExampleParse_mistakes() {
	_, err := config.Parse("gantryd.json", []byte(`{
  "components": [{
    "name": "web",
    "repo": "my/web",
    "ports": [{"external": 70000, "container": 80}],
    "readyCheks": [{"kind": "http", "port": 80}]
  }]
}`))
	fmt.Println(err)
	// Output:
	// gantryd.json: 2 mistakes:
	//   components[0].ports[0].external (line 5): 70000 is not a port
	//   components[0].readyCheks (line 6): unknown key "readyCheks"; did you mean "readyChecks"?
}

func ExampleOverride() {
	p, err := config.Parse("gantryd.yaml", []byte("components: [{name: web, repo: my/web}]"))
	if err != nil {
		fmt.Println(err)
		return
	}
	spec, err := config.Override(p.Components[0], []string{
		"tag=1.4",
		"ports.80=8000",
		"ports.80.kind=http",
		"environmentVariables.OPTIONS=--color=never",
		`labels."com.example.team"=shop`,
		"drain.timeout=30s",
	})
	fmt.Println(spec.Ref(), spec.Ports[0].Container, spec.Ports[0].Kind, spec.EnvironmentVariables, spec.Labels, spec.Drain.Timeout, err)
	// Output: my/web:1.4 8000 http [{OPTIONS --color=never}] map[com.example.team:shop] 30s <nil>
}

func ExamplePretty() {
	b, err := config.Pretty([]byte(`{"components":[{"name":"web","repo":"my/web"}]}`))
	fmt.Println(string(b), err)
	// Output:
	// {
	//   "components": [
	//     {
	//       "name": "web",
	//       "repo": "my/web"
	//     }
	//   ]
	// } <nil>
}
