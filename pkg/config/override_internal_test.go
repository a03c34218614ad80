package config

import (
	"reflect"
	"testing"
)

// TestOverrideOfEntriesWithoutName covers what no list of a project has today.
func TestOverrideOfEntriesWithoutName(t *testing.T) {
	var v struct {
		Things []struct {
			A int `json:"a"`
		} `json:"things"`
	}
	err := override(reflect.ValueOf(&v).Elem(), []string{"things", "a"}, "1")
	if want := "List field things does not support overrides by name"; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}
