package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/gantryd/gantryd/pkg/component"
)

// Canonical is the JSON that is stored: compact, fields in the order of the types, without those
// that have no value. The same project always gives the same bytes; Parse reads them back.
func Canonical(p component.Project) ([]byte, error) {
	if p.Components == nil {
		p.Components = []component.Spec{} // a list, never null
	}
	b, err := encode(p, "")
	if err != nil {
		return nil, fmt.Errorf("encode project: %w", err)
	}
	return b, nil
}

// Pretty is stored JSON for people: keys sorted, two spaces of indentation. It keeps every field,
// those it does not know included, and numbers as they were written.
func Pretty(stored []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(stored))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("read stored project: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("read stored project: more than one JSON value")
	}
	b, err := encode(v, "  ")
	if err != nil {
		return nil, fmt.Errorf("write stored project: %w", err)
	}
	return b, nil
}

// encode is v as JSON, its text as it is rather than safe for HTML, without a line feed at the end.
func encode(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
