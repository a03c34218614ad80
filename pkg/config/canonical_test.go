package config_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/config"
)

func TestCanonical(t *testing.T) {
	tests := []struct {
		name    string
		project component.Project
		want    string
	}{
		{"no components", component.Project{}, `{"components":[]}`},
		{"as it was written", component.Project{Components: []component.Spec{{
			Name: "web", Repo: "my/web", Command: []string{"sh", "-c", "a && b > c"},
		}}}, `{"components":[{"name":"web","repo":"my/web","command":["sh","-c","a && b > c"]}]}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := config.Canonical(tt.project)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want {
				t.Errorf("canonical form is\n%s, want\n%s", got, tt.want)
			}
		})
	}
}

func TestCanonicalIsReadBack(t *testing.T) {
	p, err := config.Parse("everything.json", read(t, everything+".json"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := config.Canonical(p)
	if err != nil {
		t.Fatal(err)
	}
	again, err := config.Parse("", b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, again); diff != "" {
		t.Errorf("project read back (-want +got):\n%s", diff)
	}
}

func TestPretty(t *testing.T) {
	tests := []struct{ name, stored, want string }{
		{"keys are sorted", `{"b":1,"a":[{"d":null,"c":"x"}]}`, "{\n  \"a\": [\n    {\n      \"c\": \"x\",\n      \"d\": null\n    }\n  ],\n  \"b\": 1\n}"},
		{"nothing is lost", `{"future":{"x":1.50,"y":123456789012345678901}}`, "{\n  \"future\": {\n    \"x\": 1.50,\n    \"y\": 123456789012345678901\n  }\n}"},
		{"text stays as it is", `{"a":"<&>ä"}`, "{\n  \"a\": \"<&>ä\"\n}"},
		{"empty ones", ` {"a":[],"b":{}} `, "{\n  \"a\": [],\n  \"b\": {}\n}"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := config.Pretty([]byte(tt.stored))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("pretty form (-want +got):\n%s", diff)
			}
		})
	}
	for _, stored := range []string{"", "{", "{} {}", "{}}"} {
		if _, err := config.Pretty([]byte(stored)); err == nil {
			t.Errorf("%q has a pretty form", stored)
		}
	}
}
