package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// `make interop` starts a broker and says where its certificates lie and which program calls it.
var (
	world   = os.Getenv("LEASEHOLD_INTEROP_WORLD")
	program = os.Getenv("LEASEHOLD_BIN")
)

const (
	audience = "https://documents.interop.example"
	agent    = "spiffe://interop.example/agents/summarizer/1"
)

func TestALivingTokenPasses(t *testing.T) {
	_, token := issued(t)
	expect(t, ask(t, "agent", token), http.StatusOK, "")
}

func TestATokenDiesHereWhenItsTaskEnds(t *testing.T) {
	task, token := issued(t)
	server := documents(t, audience, nil)
	expect(t, send(t, server, "agent", token), http.StatusOK, "")
	leasehold(t, "orchestrator", "task", "complete", task)
	expect(t, send(t, server, "agent", token), http.StatusUnauthorized, "invalid_token")
}

func TestAStolenTokenDoesNotPassWithAnotherCertificate(t *testing.T) {
	_, token := issued(t)
	expect(t, ask(t, "other-agent", token), http.StatusUnauthorized, "invalid_token")
}

func TestWhatTheGrantDoesNotSayIsRefused(t *testing.T) {
	_, token := issued(t)
	server := documents(t, audience, func(gate *Gate) string { return "annotate" })
	expect(t, send(t, server, "agent", token), http.StatusForbidden, "insufficient_scope")
}

func TestATokenForAnotherAudienceIsRefused(t *testing.T) {
	_, token := issued(t)
	expect(t, send(t, documents(t, "https://ledger.interop.example", nil), "agent", token), 401, "invalid_token")
}

func TestNoTokenAndTamperedOnesAreRefused(t *testing.T) {
	_, token := issued(t)
	parts := strings.Split(token, ".")
	flipped := "A" + parts[2][1:]
	if flipped == parts[2] {
		flipped = "B" + parts[2][1:]
	}
	unsigned := "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0." + parts[1] + "."
	for _, wrong := range []string{"", "x", parts[0] + "." + parts[1] + "." + flipped, unsigned} {
		expect(t, ask(t, "agent", wrong), http.StatusUnauthorized, "")
	}
}

func TestABrokerThatIsAwayIsNotAYes(t *testing.T) {
	_, token := issued(t)
	away := func(gate *Gate) string { gate.Issuer = "https://localhost:1"; return "read" }
	expect(t, send(t, documents(t, audience, away), "agent", token), http.StatusServiceUnavailable, "")
}

func expect(t *testing.T, answer *http.Response, status int, challenge string) {
	t.Helper()
	if answer.StatusCode != status || !strings.Contains(answer.Header.Get("WWW-Authenticate"), challenge) {
		t.Fatalf("%s %q, where %d %q is due", answer.Status, answer.Header.Get("WWW-Authenticate"), status, challenge)
	}
}

func ask(t *testing.T, workload, token string) *http.Response {
	t.Helper()
	return send(t, documents(t, audience, nil), workload, token)
}

func send(t *testing.T, server *httptest.Server, workload, token string) *http.Response {
	t.Helper()
	config := &tls.Config{RootCAs: roots(t), Certificates: []tls.Certificate{pair(t, workload)}, ServerName: "localhost"}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	request, err := http.NewRequest(http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	return answer
}

// A server of documents behind a gate; change may change the gate, and says which action is asked for.
func documents(t *testing.T, audience string, change func(*Gate) string) *httptest.Server {
	t.Helper()
	config := &tls.Config{RootCAs: roots(t), Certificates: []tls.Certificate{pair(t, "verifier")}}
	broker := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	gate, action := &Gate{Issuer: brokerURL(t), Audience: audience, Broker: broker}, "read"
	if change != nil {
		action = change(gate)
	}
	server := httptest.NewUnstartedServer(gate.Require(action, http.HandlerFunc(report)))
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{pair(t, "broker")},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    roots(t),
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// A task in which the agent may read documents, and a token for it.
func issued(t *testing.T) (task, token string) {
	t.Helper()
	began := leasehold(t, "orchestrator", "--output", "json", "task", "begin", "--agent", agent, "--tier", "standard",
		"--grant", audience+"=read", "--duration", "5m")
	var answer struct {
		Task struct {
			ID string `json:"task_id"`
		} `json:"task"`
	}
	if err := json.Unmarshal(began, &answer); err != nil || answer.Task.ID == "" {
		t.Fatalf("no task in %s: %v", began, err)
	}
	issued := leasehold(t, "agent", "token", "issue", "--task", answer.Task.ID, "--audience", audience)
	return answer.Task.ID, strings.TrimSpace(string(issued))
}

func leasehold(t *testing.T, workload string, words ...string) []byte {
	t.Helper()
	words = append(words, "--broker", fmt.Sprintf("https://localhost:%d", ports(t).GRPC), "--ca", file("root.pem"),
		"--cert", file(workload+".pem"), "--key", file(workload+".key"))
	command := exec.Command(program, words...)
	command.Stderr = os.Stderr
	answer, err := command.Output()
	if err != nil {
		t.Fatalf("%s %v: %v", program, words, err)
	}
	return answer
}

func ports(t *testing.T) (found struct{ GRPC, HTTP int }) {
	t.Helper()
	text, err := os.ReadFile(file("ports.json"))
	if err == nil {
		err = json.Unmarshal(text, &found)
	}
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func brokerURL(t *testing.T) string { return fmt.Sprintf("https://localhost:%d", ports(t).HTTP) }

func file(name string) string { return filepath.Join(world, name) }

func roots(t *testing.T) *x509.CertPool {
	t.Helper()
	roots, err := rootsOf(file("root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return roots
}

func pair(t *testing.T, name string) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(file(name+".pem"), file(name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}
