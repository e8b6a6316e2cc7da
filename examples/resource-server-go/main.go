// A resource server in Go: documents, for whoever holds a living credential of Leasehold. Beside a playground of
// `leasehold dev --dir play`:
//
//	go run . -dir ../../play
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

func main() {
	dir := flag.String("dir", "play", "folder of the playground")
	issuer := flag.String("issuer", "https://localhost:7701", "base URL of the broker")
	listen := flag.String("listen", "127.0.0.1:8443", "where to answer")
	flag.Parse()
	if err := run(*dir, *issuer, *listen); err != nil {
		log.Fatal(err)
	}
}

func run(dir, issuer, listen string) error {
	file := func(name string) string { return filepath.Join(dir, name) }
	roots, err := rootsOf(file("root.pem"))
	if err != nil {
		return err
	}
	own, err := tls.LoadX509KeyPair(file("documents.pem"), file("documents.key"))
	if err != nil {
		return err
	}
	broker := &http.Client{
		Timeout: 2 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS13},
		},
		// A token is for nobody but the broker.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	gate := &Gate{Issuer: issuer, Audience: "https://documents.dev.example", Broker: broker}
	routes := http.NewServeMux()
	routes.Handle("GET /report", gate.Require("read", http.HandlerFunc(report)))
	server := &http.Server{
		Addr:              listen,
		Handler:           routes,
		ReadHeaderTimeout: 5 * time.Second,
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{own},
			// Which certificates may connect is the first check; whose token it is that they show, the gate's.
			ClientAuth: tls.RequireAndVerifyClientCert,
			ClientCAs:  roots,
			MinVersion: tls.VersionTLS13,
			// A resumed session would bring back a certificate that nobody looked at again.
			SessionTicketsDisabled: true,
		},
	}
	log.Printf("answering at https://%s/report", listen)
	return server.ListenAndServeTLS("", "")
}

func report(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, "Revenue is up; so is the number of agents.")
}

func rootsOf(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New(file + " holds no certificate")
	}
	return roots, nil
}
