package localstate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// ErrNewer means that a file was written by a newer gantryd, in a format this one does not know.
// The file is left as it is.
var ErrNewer = errors.New("written by a newer gantryd")

// ErrGone means that the directory of the files was removed while it was in use. What was read before counts
// still, and nothing can be stored until the directory is back.
var ErrGone = errors.New("directory is gone")

const (
	// format is the version of the files' format. Every later format keeps the fields of envelope
	// and what the checksum covers, so that any version can tell newer from damaged.
	format = 1
	// maxFile is the largest file in bytes that is read or written.
	maxFile = 16 << 20
)

// Kinds of files. The kind is inside, so that a file under another's name is not taken for it.
const (
	kindMarker    = "gantryd-memory"
	kindHost      = "gantryd-host"
	kindComponent = "gantryd-component"
	kindStore     = "gantryd-store"
)

// envelope is a file: what it is, and the data exactly as it was written.
type envelope struct {
	Kind   string          `json:"kind"`
	Format int             `json:"format"`
	SHA256 string          `json:"sha256"`
	Data   json.RawMessage `json:"data"`
}

// encodeFile wraps data, which is compact JSON.
func encodeFile(kind string, data []byte) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"kind":%q,"format":%d,"sha256":%q,"data":`, kind, format, checksum(kind, format, data))
	b.Write(data)
	b.WriteString("}\n")
	if b.Len() > maxFile {
		return nil, fmt.Errorf("%d bytes: %w", b.Len(), errTooLarge)
	}
	return b.Bytes(), nil
}

// decodeFile returns the data of a file that is whole. The error is ErrNewer for a file that is
// whole and of a later format; any other error means that the file is damaged.
func decodeFile(kind string, content []byte) ([]byte, error) {
	var e envelope
	if err := json.Unmarshal(content, &e); err != nil {
		return nil, fmt.Errorf("not a state file: %w", err)
	}
	switch {
	case e.SHA256 != checksum(e.Kind, e.Format, e.Data):
		return nil, errors.New("checksum does not match")
	case e.Kind != kind:
		return nil, fmt.Errorf("kind is %q, want %q", e.Kind, kind)
	case e.Format > format:
		return nil, fmt.Errorf("format %d, at most %d is known: %w", e.Format, format, ErrNewer)
	case e.Format < 1:
		return nil, fmt.Errorf("format %d is unknown", e.Format)
	}
	return e.Data, nil
}

func checksum(kind string, format int, data []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %d ", kind, format)
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}
