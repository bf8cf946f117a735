package rdc

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain shows that every signer ended its workers.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
