package etcdstate

import (
	"bytes"
	"encoding/json"

	"github.com/gantryd/gantryd/pkg/component"
)

// mergeRollout is the value of a rollout key after r was written over raw, which is what the key holds, or nothing.
// Hosts of several versions write one record: what a newer one wrote of the same generation is kept, in the record and
// in those of its parts that did not change.
func mergeRollout(key string, raw []byte, r component.Rollout, op string) (string, error) {
	fresh := rolloutValue{r, op}
	var old rolloutValue
	if decode(key, raw, &old) != nil || old.Generation != r.Generation {
		return encode(key, fresh) // absent, not a record, or that of another rollout
	}
	now, err := fields(fresh)
	if err != nil {
		return encode(key, fresh)
	}
	known, err := fields(old)
	if err != nil {
		return encode(key, fresh)
	}
	var was map[string]json.RawMessage
	if err := json.Unmarshal(raw, &was); err != nil {
		return encode(key, fresh)
	}
	for name, v := range was {
		before, understood := known[name]
		after, still := now[name]
		if !understood && !still || understood && still && bytes.Equal(before, after) {
			now[name] = v
		}
	}
	return encode(key, now)
}

// fields are the fields of v as they are stored.
func fields(v any) (map[string]json.RawMessage, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var m map[string]json.RawMessage
	return m, json.Unmarshal(b, &m)
}
