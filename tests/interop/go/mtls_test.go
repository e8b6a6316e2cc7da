// Package interop: a server on Go's crypto/tls takes the certificates of tasks, by the root in the broker's SPIFFE bundle.
package interop

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type evidence struct {
	BaseURL  string `json:"base_url"`
	Task     string `json:"task"`
	SPIFFEID string `json:"spiffe_id"`
}

type bundle struct {
	Keys []struct {
		Use string   `json:"use"`
		X5C []string `json:"x5c"`
	} `json:"keys"`
}

func file(name string) string {
	return filepath.Join(os.Getenv("LEASEHOLD_INTEROP_WORLD"), name)
}

func must[T any](t *testing.T) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func pool(t *testing.T, name string) *x509.CertPool {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(must[[]byte](t)(os.ReadFile(file(name)))) {
		t.Fatalf("%s holds no certificate", name)
	}
	return roots
}

func issued(t *testing.T) evidence {
	t.Helper()
	var found evidence
	if err := json.Unmarshal(must[[]byte](t)(os.ReadFile(file("evidence.json"))), &found); err != nil {
		t.Fatal(err)
	}
	return found
}

// The roots that the broker publishes for its trust domain.
func published(t *testing.T) *x509.CertPool {
	t.Helper()
	trust := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool(t, "root.pem")}}
	client := http.Client{Transport: trust, Timeout: 20 * time.Second}
	answer := must[*http.Response](t)(client.Get(issued(t).BaseURL + "/spiffe/bundle.json"))
	defer answer.Body.Close()
	var found bundle
	if err := json.NewDecoder(answer.Body).Decode(&found); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	for _, key := range found.Keys {
		if key.Use == "x509-svid" {
			der := must[[]byte](t)(base64.StdEncoding.DecodeString(key.X5C[0]))
			roots.AddCert(must[*x509.Certificate](t)(x509.ParseCertificate(der)))
		}
	}
	if roots.Equal(x509.NewCertPool()) {
		t.Fatal("the bundle has no root")
	}
	return roots
}

func pair(t *testing.T, cert, key string) tls.Certificate {
	t.Helper()
	return must[tls.Certificate](t)(tls.LoadX509KeyPair(file(cert), file(key)))
}

// What a server that trusts `roots` says to a client with the certificate: whom it sees, or why it refuses.
func seen(t *testing.T, roots *x509.CertPool, client *tls.Certificate, now time.Time) (string, error) {
	t.Helper()
	server := &tls.Config{
		Certificates: []tls.Certificate{pair(t, "broker.pem", "broker.key")},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    roots,
		MinVersion:   tls.VersionTLS13,
		Time:         func() time.Time { return now },
	}
	listener := must[net.Listener](t)(tls.Listen("tcp", "127.0.0.1:0", server))
	defer listener.Close()
	config := &tls.Config{RootCAs: pool(t, "root.pem"), ServerName: "localhost"}
	if client != nil {
		// Whatever the server says that it would take.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return client, nil }
	}
	go func() {
		dialer := &net.Dialer{Timeout: 20 * time.Second}
		if connection, err := tls.DialWithDialer(dialer, "tcp", listener.Addr().String(), config); err == nil {
			_, _ = io.Copy(io.Discard, connection)
			connection.Close()
		}
	}()
	connection := must[net.Conn](t)(listener.Accept()).(*tls.Conn)
	defer connection.Close()
	if err := connection.Handshake(); err != nil {
		return "", err
	}
	leaf := connection.ConnectionState().PeerCertificates[0]
	if len(leaf.URIs) != 1 {
		t.Fatalf("%d URI names", len(leaf.URIs))
	}
	return leaf.URIs[0].String(), nil
}

func refused(t *testing.T, why string, roots *x509.CertPool, client *tls.Certificate, now time.Time) {
	t.Helper()
	name, err := seen(t, roots, client, now)
	if err == nil {
		t.Fatalf("took %s for a client", name)
	}
	if !strings.Contains(err.Error(), why) {
		t.Fatalf("refused, but not because of %q: %v", why, err)
	}
}

func TestTaskCertificateNamesItsTaskToAServer(t *testing.T) {
	client := pair(t, "task.pem", "task.key")
	name, err := seen(t, published(t), &client, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	want := "spiffe://leasehold.example/task/" + issued(t).Task + "/e/1/summarizer"
	if name != want || name != issued(t).SPIFFEID {
		t.Fatalf("saw %s, want %s", name, want)
	}
}

func TestTaskCertificateIsGoodForAServerToo(t *testing.T) {
	chain := pair(t, "task.pem", "task.key").Certificate
	leaf := must[*x509.Certificate](t)(x509.ParseCertificate(chain[0]))
	intermediates := x509.NewCertPool()
	intermediates.AddCert(must[*x509.Certificate](t)(x509.ParseCertificate(chain[1])))
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	options := x509.VerifyOptions{Roots: published(t), Intermediates: intermediates, KeyUsages: usages}
	must[[][]*x509.Certificate](t)(leaf.Verify(options))
	if leaf.IsCA || len(leaf.UnhandledCriticalExtensions) != 0 {
		t.Fatalf("CA: %v, critical and not understood: %v", leaf.IsCA, leaf.UnhandledCriticalExtensions)
	}
}

func TestTaskCertificateIsRefusedWithoutItsIntermediate(t *testing.T) {
	client := pair(t, "task-without-intermediate.pem", "task.key")
	refused(t, "unknown authority", published(t), &client, time.Now())
}

func TestTaskCertificateIsRefusedByAnotherRoot(t *testing.T) {
	client := pair(t, "task.pem", "task.key")
	refused(t, "unknown authority", pool(t, "root.pem"), &client, time.Now())
}

func TestTaskCertificateIsRefusedAfterItsExpiry(t *testing.T) {
	client := pair(t, "task.pem", "task.key")
	refused(t, "expired", published(t), &client, time.Now().Add(5*time.Minute))
}

func TestCertificateOfAnotherAuthorityIsRefused(t *testing.T) {
	client := pair(t, "agent.pem", "agent.key")
	refused(t, "unknown authority", published(t), &client, time.Now())
}

func TestClientWithoutCertificateIsRefused(t *testing.T) {
	refused(t, "didn't provide a certificate", published(t), nil, time.Now())
}
