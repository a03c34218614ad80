package skiptest

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// variable lists what the machine has to have.
const variable = "GANTRYD_REQUIRE"

// Missing ends the test because there is no what: as skipped, or as failed when GANTRYD_REQUIRE lists
// what. The rest is the reason, as for fmt.Sprintf.
func Missing(tb testing.TB, what, format string, args ...any) {
	tb.Helper()
	required := strings.FieldsFunc(os.Getenv(variable), func(r rune) bool { return r == ',' || r == ' ' })
	if slices.Contains(required, what) {
		tb.Fatalf("%s lists %s: "+format, append([]any{variable, what}, args...)...)
	}
	tb.Skipf(format, args...)
}
