package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// readJSON reads data, which is UTF-8, as one JSON value.
func readJSON(data []byte) (*node, error) {
	at := newCursor(data)
	var raw json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return nil, at.at(faultyByte(syntax, data)).errorf("%s", syntax.Error())
		}
		return nil, pos{}.errorf("%s", err)
	}
	r := jsonReader{data: data, cursor: at, dec: json.NewDecoder(bytes.NewReader(data))}
	r.dec.UseNumber()
	return r.value(0)
}

// faultyByte is the offset that err is about: the last one read, or the end of data.
func faultyByte(err *json.SyntaxError, data []byte) int {
	if int(err.Offset) >= len(data) && bytes.HasPrefix([]byte(err.Error()), []byte("unexpected end")) {
		return len(data)
	}
	return int(err.Offset) - 1
}

// A jsonReader builds the tree of data, which is valid JSON.
type jsonReader struct {
	data   []byte
	cursor *cursor
	dec    *json.Decoder
	budget budget
}

// next is the next token and its place: what follows the previous one, separators skipped.
func (r *jsonReader) next() (json.Token, pos, error) {
	offset := int(r.dec.InputOffset())
	for offset < len(r.data) && bytes.IndexByte([]byte(" \t\r\n,:"), r.data[offset]) >= 0 {
		offset++
	}
	at := r.cursor.at(offset)
	t, err := r.dec.Token()
	if err != nil {
		return nil, at, at.errorf("%s", err)
	}
	return t, at, nil
}

func (r *jsonReader) value(depth int) (*node, error) {
	t, at, err := r.next()
	if err != nil {
		return nil, err
	}
	if err := r.budget.take(at, depth); err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case nil:
		return &node{kind: kindNull, at: at}, nil
	case bool:
		return &node{kind: kindBool, at: at, text: fmt.Sprint(t)}, nil
	case json.Number:
		return &node{kind: kindNumber, at: at, text: t.String()}, nil
	case string:
		return &node{kind: kindText, at: at, text: t}, nil
	case json.Delim:
		if t == '[' {
			return r.list(at, depth)
		}
		return r.dict(at, depth)
	}
	return nil, at.errorf("unexpected %v", t)
}

func (r *jsonReader) list(at pos, depth int) (*node, error) {
	n := &node{kind: kindList, at: at}
	for r.dec.More() {
		item, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.items = append(n.items, item)
	}
	_, _, err := r.next()
	return n, err
}

func (r *jsonReader) dict(at pos, depth int) (*node, error) {
	n := &node{kind: kindDict, at: at}
	for r.dec.More() {
		t, keyAt, err := r.next()
		if err != nil {
			return nil, err
		}
		key, ok := t.(string)
		if !ok {
			return nil, keyAt.errorf("unexpected key %v", t)
		}
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.fields = append(n.fields, field{key: key, at: keyAt, value: v})
	}
	_, _, err := r.next()
	return n, err
}
