package localstate

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// maxStem keeps file names below the 255 bytes that file systems allow, with room for suffixes.
const maxStem = 160

// fileStem is the name of a component as part of a file name: distinct for distinct names, never
// with a separator, never hidden, never "." or "..", never too long. The name itself is in the file.
func fileStem(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if plain(c) || c == '.' && i > 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	if b.Len() > 0 && b.Len() <= maxStem {
		return b.String()
	}
	sum := sha256.Sum256([]byte(name)) // "%-" cannot come from the loop above
	return b.String()[:min(b.Len(), maxStem/2)] + "%-" + hex.EncodeToString(sum[:16])
}

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}
