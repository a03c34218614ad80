package config

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/gantryd/gantryd/pkg/component"
)

// Parse reads a project file and validates it. The language, JSON or YAML, is told by the
// extension of name and by what data starts with.
//
// A file that is neither is a *SyntaxError. One that can be read but is wrong gives an error that
// holds every mistake; Mistakes lists them. The project is then the zero one.
func Parse(name string, data []byte) (component.Project, error) {
	root, err := read(name, data)
	if err != nil {
		return component.Project{}, err
	}
	m := &mistakes{name: name, where: map[string]pos{}}
	var p component.Project
	m.root(root, &p)
	m.project(p)
	if err := m.err(); err != nil {
		return component.Project{}, err
	}
	return p, nil
}

// Validate checks a project that was not read by Parse, by the same rules. Mistakes lists what is
// in its error.
func Validate(p component.Project) error {
	var m mistakes
	m.project(p)
	return m.err()
}

func read(name string, data []byte) (*node, error) {
	if len(data) > maxSize {
		return nil, pos{}.errorf("larger than %d bytes", maxSize)
	}
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	if i := invalidUTF8(data); i >= 0 {
		return nil, newCursor(data).at(i).errorf("this byte is not UTF-8")
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, pos{}.errorf("the file is empty")
	}
	if isJSON(name, data) {
		return readJSON(data)
	}
	return readYAML(data)
}

// isJSON tells the language of a file. A YAML file may start with a brace too.
func isJSON(name string, data []byte) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".json":
		return true
	case ".yaml", ".yml":
		return json.Valid(data)
	}
	start := bytes.TrimLeft(data, " \t\r\n")
	return start[0] == '{' || start[0] == '['
}

// invalidUTF8 is the offset of the first byte that is not part of a character, or -1.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// root decodes the file as a whole. The key $schema is for editors.
func (m *mistakes) root(n *node, p *component.Project) {
	if n.kind == kindDict {
		fields := make([]field, 0, len(n.fields))
		for _, f := range n.fields {
			if f.key != schemaKey || f.value.kind != kindText {
				fields = append(fields, f)
			}
		}
		n.fields = fields
	}
	m.decode(reflect.ValueOf(p).Elem(), n, "", "")
	for path := range m.muted {
		m.linksUnsure = m.linksUnsure || linkPath.MatchString(path)
	}
}

// linkPath matches the paths whose mistakes may hide the definition of a link.
var linkPath = regexp.MustCompile(`^(components(\[\d+\](\.defineComponentLinks(\[\d+\](\.name)?)?)?)?)?$`)

// schemaKey is where a file may name its schema.
const schemaKey = "$schema"
