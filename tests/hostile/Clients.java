// POSTs the file named second to the address named first, in each way a Java program is likely to, with the defaults of
// java.net.http.HttpClient: it offers h2c on every request. Prints a line for each: its name, the status, the body.

import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;

public class Clients {
    public static void main(String[] arguments) throws Exception {
        URI address = URI.create(arguments[0]);
        Path body = Path.of(arguments[1]);
        byte[] bytes = Files.readAllBytes(body);
        HttpClient client = HttpClient.newHttpClient();
        for (int round = 0; round < 3; round++) {
            post(client, address, "string", BodyPublishers.ofString(Files.readString(body)));
            post(client, address, "file", BodyPublishers.ofFile(body));
            // As Spring's RestClient has it: the body's length is not known when the head is sent.
            post(client, address, "stream", BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(bytes)));
            post(HttpClient.newHttpClient(), address, "fresh", BodyPublishers.ofByteArray(bytes));
        }
    }

    static void post(HttpClient client, URI address, String name, HttpRequest.BodyPublisher body) throws Exception {
        HttpRequest request =
                HttpRequest.newBuilder(address).header("Content-Type", "application/json").POST(body).build();
        var answer = client.send(request, BodyHandlers.ofString());
        System.out.println(name + "\t" + answer.statusCode() + "\t" + answer.body());
    }
}
