package config

import (
	"bytes"
	"errors"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readYAML reads data, which is UTF-8, as one YAML document.
func readYAML(data []byte) (*node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); err != nil {
		return nil, yamlError(err)
	}
	switch err := dec.Decode(&more); {
	case err == nil:
		return nil, yamlPos(&more).errorf("a second document starts here; a project file is one")
	case !errors.Is(err, io.EOF):
		return nil, yamlError(err)
	}
	var r yamlReader
	return r.value(&doc, 0)
}

var yamlLine = regexp.MustCompile(`^line (\d+): `)

// yamlError takes the line out of what the library says; it does not tell the column.
func yamlError(err error) error {
	if errors.Is(err, io.EOF) {
		return pos{}.errorf("the file is empty")
	}
	reason := strings.TrimPrefix(err.Error(), "yaml: ")
	m := yamlLine.FindStringSubmatch(reason)
	if m == nil {
		return pos{}.errorf("%s", reason)
	}
	line, err := strconv.Atoi(m[1])
	if err != nil {
		line = 0
	}
	return pos{line: line}.errorf("%s", strings.TrimPrefix(reason, m[0]))
}

func yamlPos(n *yaml.Node) pos { return pos{n.Line, n.Column} }

// A yamlReader builds the tree of a document. Aliases are copied in, which the budget bounds.
type yamlReader struct{ budget budget }

func (r *yamlReader) value(n *yaml.Node, depth int) (*node, error) {
	if err := r.budget.take(yamlPos(n), depth); err != nil {
		return nil, err
	}
	switch n.Kind {
	case yaml.DocumentNode:
		if len(n.Content) == 1 {
			return r.value(n.Content[0], depth+1)
		}
	case yaml.AliasNode:
		return r.value(n.Alias, depth+1)
	case yaml.SequenceNode:
		return r.list(n, depth)
	case yaml.MappingNode:
		return r.dict(n, depth)
	case yaml.ScalarNode:
		return scalar(n)
	}
	return nil, yamlPos(n).errorf("this is not a value")
}

func (r *yamlReader) list(n *yaml.Node, depth int) (*node, error) {
	if tag := n.ShortTag(); tag != "!!seq" {
		return nil, yamlPos(n).errorf("the tag %s means nothing in a project file", tag)
	}
	out := &node{kind: kindList, at: yamlPos(n)}
	for _, c := range n.Content {
		item, err := r.value(c, depth+1)
		if err != nil {
			return nil, err
		}
		out.items = append(out.items, item)
	}
	return out, nil
}

func (r *yamlReader) dict(n *yaml.Node, depth int) (*node, error) {
	if tag := n.ShortTag(); tag != "!!map" {
		return nil, yamlPos(n).errorf("the tag %s means nothing in a project file", tag)
	}
	out := &node{kind: kindDict, at: yamlPos(n)}
	var merged []field
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, c := n.Content[i], n.Content[i+1]
		if k.Kind == yaml.ScalarNode && k.ShortTag() == "!!merge" {
			fs, err := r.merge(c, depth+1)
			if err != nil {
				return nil, err
			}
			merged = append(merged, fs...)
			continue
		}
		if k.Kind != yaml.ScalarNode || k.ShortTag() == "!!null" {
			return nil, yamlPos(k).errorf("a key is a text")
		}
		v, err := r.value(c, depth+1)
		if err != nil {
			return nil, err
		}
		out.fields = append(out.fields, field{key: k.Value, at: yamlPos(k), value: v})
	}
	out.fields = append(out.fields, notIn(out.fields, merged)...)
	return out, nil
}

// merge is what the key << brings: the fields of a dictionary, or of a list of them.
func (r *yamlReader) merge(n *yaml.Node, depth int) ([]field, error) {
	v, err := r.value(n, depth)
	if err != nil {
		return nil, err
	}
	from := []*node{v}
	if v.kind == kindList {
		from = v.items
	}
	var fs []field
	for _, f := range from {
		if f.kind != kindDict {
			return nil, yamlPos(n).errorf("<< takes a dictionary or a list of them")
		}
		fs = append(fs, notIn(fs, f.fields)...)
	}
	return fs, nil
}

// notIn are the fields of more whose keys are not in has.
func notIn(has, more []field) []field {
	known := make(map[string]bool, len(has))
	for _, f := range has {
		known[f.key] = true
	}
	var out []field
	for _, f := range more {
		if !known[f.key] {
			out = append(out, f)
		}
	}
	return out
}

// leadingZero matches numbers that YAML reads as octal, or not, depending on its version.
var leadingZero = regexp.MustCompile(`^[-+]?0[0-9_]`)

func scalar(n *yaml.Node) (*node, error) {
	at := yamlPos(n)
	switch tag := n.ShortTag(); tag {
	case "!!null":
		return &node{kind: kindNull, at: at}, nil
	case "!!str", "!!timestamp":
		return &node{kind: kindText, at: at, text: n.Value}, nil
	case "!!bool":
		var b bool
		if err := n.Decode(&b); err != nil {
			return nil, at.errorf("%s is not a boolean", short(n.Value))
		}
		return &node{kind: kindBool, at: at, text: strconv.FormatBool(b)}, nil
	case "!!int", "!!float":
		return number(n)
	default:
		return nil, at.errorf("the tag %s means nothing in a project file", tag)
	}
}

// number writes a YAML number, such as 0x1F or 1_000, the way JSON does.
func number(n *yaml.Node) (*node, error) {
	at := yamlPos(n)
	if leadingZero.MatchString(n.Value) {
		return nil, at.errorf("%s starts with a zero: leave it out of a number, put a text in quotes", n.Value)
	}
	var i int64
	if n.ShortTag() == "!!int" && n.Decode(&i) == nil {
		return &node{kind: kindNumber, at: at, text: strconv.FormatInt(i, 10)}, nil
	}
	var f float64
	if err := n.Decode(&f); err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, at.errorf("%s is not a number gantryd can hold", short(n.Value))
	}
	return &node{kind: kindNumber, at: at, text: strconv.FormatFloat(f, 'g', -1, 64)}, nil
}
