<?php
// Reads a job as JSON from the standard input and prints its prompt, from its bytes.
// Usage: message.php DIRECTORY_OF_STUBS
spl_autoload_register(function (string $class): void {
    foreach ([$GLOBALS['argv'][1], '/usr/share/php'] as $directory) {
        $file = "$directory/" . str_replace('\\', '/', $class) . '.php';
        if (file_exists($file)) {
            require $file;
            return;
        }
    }
});
$job = new Aitbc\V1\Job();
$job->mergeFromJsonString(file_get_contents('php://stdin'));
$again = new Aitbc\V1\Job();
$again->mergeFromString($job->serializeToString());
echo $again->getPrompt(), "\n", Aitbc\V1\JobStatus::name($again->getStatus()), "\n";
