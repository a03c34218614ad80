package localstate

import (
	"bytes"
	"encoding/json"
	"maps"
	"strings"
)

// keep says which objects inside a value stay the same thing when their content changes: fields
// found in them that this version does not know are kept. "*" stands for any key.
type keep map[string]keep

func (k keep) of(key string) keep {
	if sub, ok := k[key]; ok {
		return sub
	}
	return k["*"]
}

// carry returns fresh with the unknown fields of old. known is old without them, that is, decoded
// and encoded again by this version. All are compact JSON. A value that did not change is returned
// as it was in old; one that changed and is not in k is returned as it is in fresh.
func carry(old, known, fresh []byte, k keep) []byte {
	if bytes.Equal(known, fresh) {
		return old
	}
	if k == nil {
		return fresh
	}
	was, okOld := object(old)
	had, okKnown := object(known)
	is, okFresh := object(fresh)
	if !okOld || !okKnown || !okFresh {
		return fresh
	}
	merged := maps.Clone(is)
	for key, v := range was {
		now, still := is[key]
		before, understood := had[key]
		switch {
		case still && understood:
			merged[key] = carry(v, before, now, k.of(key))
		case !holdsFold(is, key) && !holdsFold(had, key):
			merged[key] = v
		}
	}
	b, err := json.Marshal(merged)
	if err != nil {
		return fresh // cannot be: every value came out of a decoder
	}
	return b
}

// object decodes b when it is a JSON object.
func object(b []byte) (map[string]json.RawMessage, bool) {
	if len(b) == 0 || b[0] != '{' {
		return nil, false
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, false
	}
	return m, true
}

// holdsFold reports whether a key of m would be decoded into the same field as key: encoding/json
// does not mind the case.
func holdsFold(m map[string]json.RawMessage, key string) bool {
	for k := range m {
		if strings.EqualFold(k, key) {
			return true
		}
	}
	return false
}
